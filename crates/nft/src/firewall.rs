//! The firewall of a host.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use netloft_netlink::{Cause, Rejected};
use netloft_netns::{Enterer, Netns};
use nix::libc;

use crate::attribute::{find_text, find_u32, find_u64};
use crate::events::{Events, Seen};
use crate::fact::Fact;
use crate::object::{self, Ownership};
use crate::session::{Session, Transaction, nft, open_in};
use crate::set::{Element, Set};
use crate::table::{NAME, Table};
use crate::{Error, ruleset};

/// The firewall of a host: the tables of ours in its namespace. Blocking; the kernel answers at once.
///
/// From Linux 6.9 on the tables are owned: while this value lives nobody else can change or flush them, and when it is
/// gone they stay in force, until another [`Firewall::establish`] takes them over. Older kernels let anybody with
/// privilege change them; [`Firewall::is_disturbed`] says when somebody did.
pub struct Firewall {
    netns: Netns,
    pub(crate) session: Session,
    events: Events,
    /// What to ask the kernel for.
    ownership: Ownership,
    established: Option<Established>,
    is_disturbed: bool,
}

/// The tables as we made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Established {
    ownership: Ownership,
    /// What the kernel calls them: those that somebody makes again are others.
    handles: [u64; 2],
}

impl Firewall {
    /// Opens a connection to the packet filter of `netns`, whichever thread uses it. Changes nothing.
    pub fn open(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        Self::open_as(Ownership::Ours, enterer, netns)
    }

    /// Opens a connection whose tables have no owner, as before Linux 6.9: for hosts where somebody else must be able to
    /// flush everything.
    pub fn open_unowned(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        Self::open_as(Ownership::Anybodys, enterer, netns)
    }

    fn open_as(ownership: Ownership, enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        let (session, events) = open_in(enterer, netns, || Ok((Session::open()?, Events::open()?)))?;
        Ok(Self { netns: netns.clone(), session, events, ownership, established: None, is_disturbed: false })
    }

    /// The namespace in which it acts.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Makes the tables, or takes over those that are there, so that exactly these facts hold, in one transaction.
    ///
    /// Every packet meets either what was there before or all of this. Established connections go on; only how many each
    /// sandbox has open is counted from zero again.
    ///
    /// # Errors
    ///
    /// `is_conflict()` if two facts contradict each other, or if another living process owns the tables;
    /// `is_exhausted()` if it is too much for one transaction. In each case nothing has changed.
    pub fn establish(&mut self, facts: &BTreeSet<Fact>) -> Result<(), Error> {
        let elements = elements(facts)?;
        self.events.pause().map_err(|source| Error::Events { source })?;
        let made = self.replace_tables(&elements);
        self.events.resume().map_err(|source| Error::Events { source })?;
        // What others did meanwhile we were not told.
        self.is_disturbed = self.established.is_some();
        let ownership = made?;
        // If they deleted a table again, it shows now.
        let handles = self.handles()?;
        self.established = handles.map(|handles| Established { ownership, handles });
        self.is_disturbed = self.established.is_none();
        if self.is_owner() {
            // Nobody else can change them, and our own changes need not wake anybody.
            self.events.pause().map_err(|source| Error::Events { source })?;
        }
        Ok(())
    }

    /// Makes and unmakes facts, in one transaction: first what goes, then what comes. That one is there already, or is
    /// not there, is success.
    ///
    /// # Errors
    ///
    /// `is_conflict()` if a fact contradicts one that is there; `is_not_found()` if the tables are not there, because
    /// [`Firewall::establish`] was never called or somebody deleted them. In each case nothing has changed.
    pub fn change(&mut self, put: &[Fact], delete: &[Fact]) -> Result<(), Error> {
        let put = elements(put)?;
        let mut delete: Vec<&Fact> = delete.iter().collect();
        loop {
            let mut transaction = Transaction::new();
            let mut ends = Vec::with_capacity(delete.len());
            for fact in &delete {
                unmake(&mut transaction, fact, &put);
                ends.push(transaction.next_position());
            }
            for made in put.chunk_by(|one, other| (one.set, one.fact) == (other.set, other.fact)) {
                let of_fact = made.iter().map(|part| &part.element);
                object::put_elements(&mut transaction, made[0].set, &made[0].fact.to_string(), of_fact);
            }
            let Err(Rejected { position, error }) = self.session.transact(transaction) else { return Ok(()) };
            let error = Error::from(error);
            // A fact in whose place is another one is not there, and the other stays.
            let replaced = ends.partition_point(|end| *end <= position);
            if position == 0 || replaced == delete.len() || !error.says_taken() {
                return Err(error);
            }
            delete.remove(replaced);
        }
    }

    /// Deletes the tables; that there are none is success. Whatever was published, guarded or kept apart no longer is.
    pub fn remove(&mut self) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        for table in Table::ALL {
            object::delete_table(&mut transaction, table);
        }
        self.session.transact(transaction).map_err(taken)?;
        self.established = None;
        self.is_disturbed = false;
        Ok(())
    }

    /// Whether nobody else can change the tables: they are established, and the kernel knows owners (Linux 6.9).
    pub fn is_owner(&self) -> bool {
        self.established.is_some_and(|it| it.ownership == Ownership::Ours)
    }

    /// Becomes readable when somebody has changed a table, ours or not; ask [`Firewall::is_disturbed`] then. Never while
    /// nobody else can ([`Firewall::is_owner`]).
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.fd()
    }

    /// Whether somebody else has changed or deleted our tables since they were established. If so they should be
    /// established again; until then the answer stays.
    ///
    /// Never waits, and reads a bounded number of events; while there are more, [`Firewall::events_fd`] stays readable.
    /// If so many come that the kernel drops some, the tables themselves are looked at; where they are not owned, that
    /// cannot show all that may have happened, and counts as a disturbance.
    pub fn is_disturbed(&mut self) -> Result<bool, Error> {
        let seen = self.events.look(self.session.socket.port());
        match seen.map_err(|source| Error::Events { source })? {
            Seen::Calm => {}
            Seen::Changed => self.is_disturbed |= self.established.is_some(),
            Seen::Lost => {
                if let Some(established) = self.established {
                    let is_there = self.handles()? == Some(established.handles);
                    self.is_disturbed |= !is_there || established.ownership == Ownership::Anybodys;
                }
            }
        }
        Ok(self.is_disturbed)
    }

    fn replace_tables(&mut self, elements: &[Part<'_>]) -> Result<Ownership, Error> {
        match self.session.transact(tables(self.ownership, elements)) {
            Err(rejected) if self.ownership == Ownership::Ours && refuses_owners(&rejected) => {
                self.ownership = Ownership::Anybodys;
                self.replace_tables(elements)
            }
            outcome => outcome.map(|()| self.ownership).map_err(taken),
        }
    }

    /// What the kernel calls our tables; `None` if one is missing.
    fn handles(&mut self) -> Result<Option<[u64; 2]>, Error> {
        let tables = read_tables(&mut self.session)?;
        let handle = |wanted| tables.iter().find(|table| table.table == wanted).map(|table| table.handle);
        let [first, second] = Table::ALL.map(handle);
        Ok(first.zip(second).map(|(first, second)| [first, second]))
    }
}

/// A table of ours as the kernel tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenTable {
    pub(crate) table: Table,
    handle: u64,
    pub(crate) is_dormant: bool,
}

pub(crate) fn read_tables(session: &mut Session) -> Result<Vec<SeenTable>, Error> {
    let get = (nft(object::GET_TABLE), 0);
    session.dump(
        ("list", "tables"),
        get,
        |_| (),
        |message| {
            let attributes = message.attributes();
            let is_ours = find_text(attributes, object::TABLE_NAME) == Some(NAME);
            Some(SeenTable {
                table: Table::from_family(message.family()?).filter(|_| is_ours)?,
                handle: find_u64(attributes, object::TABLE_HANDLE)?,
                is_dormant: find_u32(attributes, object::TABLE_FLAGS)? & object::DORMANT != 0,
            })
        },
    )
}

/// An element, its set, and the fact for which it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Part<'a> {
    pub(crate) set: Set,
    pub(crate) element: Element,
    pub(crate) fact: &'a Fact,
}

/// The elements of facts, in order of sets and keys.
///
/// # Errors
///
/// If two facts want different elements in the same place.
pub(crate) fn elements<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Result<Vec<Part<'a>>, Error> {
    let parts_of =
        |fact: &'a Fact| fact.elements().into_iter().map(move |(set, element)| Part { set, element, fact });
    let mut parts: Vec<_> = facts.into_iter().flat_map(parts_of).collect();
    parts.sort_unstable();
    parts.dedup_by(|later, first| later.set == first.set && later.element == first.element);
    for pair in parts.windows(2) {
        if pair[0].set == pair[1].set && pair[0].element.rivals(&pair[1].element) {
            let [one, other] = [0, 1].map(|index: usize| Box::new(pair[index].fact.clone()));
            return Err(Error::Contradiction { one, other });
        }
    }
    Ok(parts)
}

/// The transaction that replaces our tables, whatever is there.
pub(crate) fn tables(ownership: Ownership, elements: &[Part<'_>]) -> Transaction {
    let mut transaction = Transaction::new();
    for table in Table::ALL {
        object::delete_table(&mut transaction, table);
        object::make_table(&mut transaction, table, ownership);
    }
    for set in Set::ALL {
        object::make_set(&mut transaction, set);
    }
    for parts in elements.chunk_by(|one, other| one.set == other.set) {
        let object = format!("elements of {}", parts[0].set.name());
        let of_set = parts.iter().map(|part| &part.element);
        object::put_elements(&mut transaction, parts[0].set, &object, of_set);
    }
    let chains = ruleset::chains();
    for chain in &chains {
        object::make_chain(&mut transaction, chain);
    }
    for chain in &chains {
        for rule in &chain.rules {
            object::make_rule(&mut transaction, chain, rule);
        }
    }
    transaction
}

/// How many messages [`tables`] begins with for each table.
const MESSAGES_PER_TABLE: usize = 3;

/// Whether the kernel does not know owners, or not those whose tables survive them (before Linux 5.12 and 6.9).
fn refuses_owners(rejected: &Rejected) -> bool {
    (1..=MESSAGES_PER_TABLE * Table::ALL.len()).contains(&rejected.position)
        && matches!(rejected.error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL))
}

/// Says so if a table is not ours to change.
fn taken(Rejected { position, error }: Rejected) -> Error {
    match error.cause {
        Cause::Refused(source) if position > 0 && source.errno() == libc::EPERM => Error::Taken { source },
        cause => Error::Request(netloft_netlink::Error { cause, ..error }),
    }
}

/// Deletes the elements of a fact, but for those that are to come.
///
/// The kernel refuses to delete what is not there, and before Linux 6.3 has no other way. So each is put first: that
/// succeeds if the place is empty or has just this, and fails if it has something else, which is not ours to delete.
fn unmake(transaction: &mut Transaction, fact: &Fact, put: &[Part<'_>]) {
    let stays = |set, element: &Element| {
        put.binary_search_by(|part| (part.set, &part.element).cmp(&(set, element))).is_ok()
    };
    let mut goes = fact.elements();
    goes.retain(|(set, element)| !stays(*set, element));
    goes.sort_unstable();
    for of_set in goes.chunk_by(|one, other| one.0 == other.0) {
        let (set, elements) = (of_set[0].0, of_set.iter().map(|(_, element)| element));
        object::put_elements(transaction, set, &fact.to_string(), elements.clone());
        object::delete_elements(transaction, set, &fact.to_string(), elements);
    }
}
