//! What the kernel has, compared with what it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use netloft_netlink::attributes;
use netloft_netns::Enterer;

use crate::Error;
use crate::attribute::{find, find_text, find_u32};
use crate::fact::Fact;
use crate::firewall::{Firewall, Part, elements, read_tables, tables};
use crate::message::Message;
use crate::object::{self, Ownership};
use crate::session::{Session, nft};
use crate::set::{Element, Set, Shape, describe};
use crate::table::{NAME, Table};

/// A difference between the tables in the kernel and what they should be. [`Firewall::establish`] mends all of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Difference {
    /// A table, chain or set is not there.
    Absent {
        /// Which one, such as `chain inet netloft input`.
        object: String,
    },
    /// A table, chain or set is there, but is not as it should be: its rules, its hook or its type.
    Altered {
        /// Which one.
        object: String,
    },
    /// A chain or set in our tables that we did not make.
    Strange {
        /// Which one.
        object: String,
    },
    /// A fact does not hold, or holds only in part.
    Missing {
        /// The fact.
        fact: Fact,
    },
    /// An element of a set stands for none of the facts.
    Unexpected {
        /// The set, such as `set inet netloft bridges`.
        set: String,
        /// The key of the element, its fields with dots between them.
        element: String,
    },
}

impl Firewall {
    /// Compares the tables in the kernel with what [`Firewall::establish`] would make of these facts, whoever made them;
    /// an empty list says that they are the same. Changes nothing.
    ///
    /// What the kernel tells of a rule differs between its versions. So the rules are made once more, in a namespace of
    /// their own that goes away again, and compared with what the kernel tells of those.
    pub fn audit(&mut self, enterer: &Enterer, facts: &BTreeSet<Fact>) -> Result<Vec<Difference>, Error> {
        let expected = elements(facts)?;
        let mut differences = compare_layouts(&reference(enterer)?, &Layout::read(&mut self.session)?);
        let mut present = BTreeSet::new();
        for set in Set::ALL.into_iter().filter(|set| !set.is_filled_by_packets()) {
            present.extend(read_elements(&mut self.session, set)?.into_iter().map(|element| (set, element)));
        }
        differences.extend(compare_elements(&expected, present));
        Ok(differences)
    }
}

fn compare_elements(expected: &[Part<'_>], mut present: BTreeSet<(Set, Element)>) -> Vec<Difference> {
    let mut missing = BTreeSet::new();
    for Part { set, element, fact } in expected {
        if !present.remove(&(*set, element.clone())) {
            missing.insert(*fact);
        }
    }
    let missing = missing.into_iter().map(|fact| Difference::Missing { fact: fact.clone() });
    let unexpected = present.into_iter().map(|(set, element)| Difference::Unexpected {
        set: set.to_string(),
        element: describe(set.spec().key, &element.key),
    });
    missing.chain(unexpected).collect()
}

/// What the tables are made of, but for the elements of sets: each object and what the kernel tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Layout(BTreeMap<String, Vec<u8>>);

/// Tells an object of ours, and what the kernel says of it.
type Reader = fn(&Message<'_>) -> Option<(String, Vec<u8>)>;

/// The same tables, made where nobody can have changed them.
fn reference(enterer: &Enterer) -> Result<Layout, Error> {
    let (netns, session) = enterer.create_with(Session::open).map_err(|source| Error::Enter { source })?;
    let mut session = session.map_err(|source| Error::Open { netns: netns.id(), source })?;
    session.transact(tables(Ownership::Anybodys, &[])).map_err(|rejected| rejected.error)?;
    Layout::read(&mut session)
}

impl Layout {
    fn read(session: &mut Session) -> Result<Self, Error> {
        let mut objects = BTreeMap::new();
        for seen in read_tables(session)? {
            // A dormant table has no effect.
            let is_dormant = u8::from(seen.is_dormant);
            objects.insert(format!("table {}", seen.table), vec![is_dormant]);
        }
        let mut list = |what, kind, read: Reader| session.dump(("list", what), (nft(kind), 0), |_| (), read);
        objects.extend(list("chains", object::GET_CHAIN, read_chain)?);
        objects.extend(list("sets", object::GET_SET, read_set)?);
        // The kernel lists the rules of a chain in their order.
        for (chain, rule) in list("rules", object::GET_RULE, read_rule)? {
            objects.entry(chain).or_default().extend(rule);
        }
        Ok(Self(objects))
    }
}

fn compare_layouts(expected: &Layout, present: &Layout) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (object, expected) in &expected.0 {
        let object = object.clone();
        match present.0.get(&object) {
            None => differences.push(Difference::Absent { object }),
            Some(present) if present != expected => differences.push(Difference::Altered { object }),
            Some(_) => {}
        }
    }
    let strange = present.0.keys().filter(|object| !expected.0.contains_key(*object));
    differences.extend(strange.map(|object| Difference::Strange { object: object.clone() }));
    differences
}

fn read_chain(message: &Message<'_>) -> Option<(String, Vec<u8>)> {
    let table = table_of(message)?;
    let told = message.attributes();
    let name = find_text(told, object::CHAIN_NAME)?;
    let kinds = [object::CHAIN_HOOK, object::CHAIN_POLICY, object::CHAIN_TYPE];
    Some((format!("chain {table} {name}"), pick(told, &kinds)))
}

fn read_set(message: &Message<'_>) -> Option<(String, Vec<u8>)> {
    let table = table_of(message)?;
    let told = message.attributes();
    let name = find_text(told, object::SET_NAME)?;
    let kinds = [
        object::SET_FLAGS,
        object::SET_KEY_LEN,
        object::SET_DATA_LEN,
        object::SET_DESCRIPTION,
        object::SET_TIMEOUT,
    ];
    Some((format!("set {table} {name}"), pick(told, &kinds)))
}

fn read_rule(message: &Message<'_>) -> Option<(String, Vec<u8>)> {
    let table = table_of(message)?;
    let told = message.attributes();
    let chain = find_text(told, object::RULE_CHAIN)?;
    Some((format!("chain {table} {chain}"), pick(told, &[object::RULE_EXPRESSIONS])))
}

fn table_of(message: &Message<'_>) -> Option<Table> {
    let is_ours = find_text(message.attributes(), object::TABLE_NAME) == Some(NAME);
    Table::from_family(message.family()?).filter(|_| is_ours)
}

/// The attributes of these kinds, each behind its kind and length. The others are numbers that the kernel has given, and
/// counts.
fn pick(told: &[u8], kinds: &[u16]) -> Vec<u8> {
    let mut picked = Vec::new();
    for (kind, value) in attributes(told).filter(|(kind, _)| kinds.contains(kind)) {
        picked.extend(kind.to_ne_bytes());
        picked.extend(value.len().to_ne_bytes());
        picked.extend(value);
    }
    picked
}

/// The elements of a set; none if there is no such set, which the layout tells.
fn read_elements(session: &mut Session, set: Set) -> Result<Vec<Element>, Error> {
    let spec = set.spec();
    let name = |it: &mut crate::attribute::Writer<'_>| {
        it.text(object::TABLE_NAME, NAME).text(object::ELEMENTS_SET, spec.name);
    };
    let get = (nft(object::GET_ELEMENTS), spec.table.family());
    let read = |message: &Message<'_>| {
        let list = find(message.attributes(), object::ELEMENTS_LIST)?;
        Some(attributes(list).filter_map(|(_, element)| read_element(element)).collect::<Vec<_>>())
    };
    match session.dump(("list elements of", spec.name), get, name, read) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        lists => Ok(lists?.into_iter().flatten().collect()),
    }
}

fn read_element(told: &[u8]) -> Option<Element> {
    let value = |kind| find(told, kind).and_then(|data| find(data, object::DATA_VALUE)).map(<[u8]>::to_vec);
    let flags = find_u32(told, object::ELEMENT_FLAGS).unwrap_or(0);
    Some(Element {
        key: value(object::ELEMENT_KEY)?,
        begins: flags & object::INTERVAL_END == 0,
        last_key: value(object::ELEMENT_LAST_KEY).unwrap_or_default(),
        data: value(object::ELEMENT_DATA).unwrap_or_default(),
    })
}

impl Set {
    fn is_filled_by_packets(self) -> bool {
        matches!(self.spec().shape, Shape::Seen { .. } | Shape::Counted)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { object } => write!(f, "{object} is not there"),
            Self::Altered { object } => write!(f, "{object} was altered"),
            Self::Strange { object } => write!(f, "{object} is not ours"),
            Self::Missing { fact } => write!(f, "{fact} is not in force"),
            Self::Unexpected { set, element } => write!(f, "{set} has {element}, for which nobody asked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::Family;

    use super::*;

    #[test]
    fn a_missing_element_is_told_as_its_fact_and_a_surplus_one_by_its_key() {
        let facts = [Fact::ClosedToStrangers(Family::V4), Fact::ClosedToStrangers(Family::V6)];
        let expected = elements(&facts).unwrap();
        let all: BTreeSet<_> = expected.iter().map(|part| (part.set, part.element.clone())).collect();
        assert_eq!(compare_elements(&expected, all.clone()), []);

        let found = compare_elements(&expected[..1], all);
        assert_eq!(found[0].to_string(), "set inet netloft closed has 10, for which nobody asked");
        let found = compare_elements(&expected, BTreeSet::new());
        assert_eq!(found, facts.map(|fact| Difference::Missing { fact }));
    }

    #[test]
    fn layouts_differ_in_what_is_absent_altered_and_strange() {
        let layout = |objects: &[(&str, &[u8])]| {
            Layout(objects.iter().map(|(name, told)| ((*name).to_owned(), told.to_vec())).collect())
        };
        let expected = layout(&[("a", &[1]), ("b", &[2])]);
        assert_eq!(compare_layouts(&expected, &expected), []);
        let found = compare_layouts(&expected, &layout(&[("b", &[3]), ("c", &[])]));
        let text: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["a is not there", "b was altered", "c is not ours"]);
    }
}
