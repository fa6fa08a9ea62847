//! The objects of nftables as the kernel wants them said: tables, sets, chains, rules, elements.

use std::borrow::Borrow;

use netloft_netlink::{APPEND, CREATE, Subject};

use crate::attribute::Writer;
use crate::chain::{Chain, Rule};
use crate::session::Transaction;
use crate::set::{Element, Set, Shape, display_type, fields_len};
use crate::table::{NAME, Table};

/// Types of messages (`NFT_MSG_*`).
pub(crate) const NEW_TABLE: u16 = 0;
pub(crate) const GET_TABLE: u16 = 1;
pub(crate) const DELETE_TABLE: u16 = 2;
pub(crate) const NEW_CHAIN: u16 = 3;
pub(crate) const GET_CHAIN: u16 = 4;
pub(crate) const NEW_RULE: u16 = 6;
pub(crate) const GET_RULE: u16 = 7;
pub(crate) const NEW_SET: u16 = 9;
pub(crate) const GET_SET: u16 = 10;
pub(crate) const NEW_ELEMENTS: u16 = 12;
pub(crate) const GET_ELEMENTS: u16 = 13;
pub(crate) const DELETE_ELEMENTS: u16 = 14;

/// Attributes: in every kind of message the first is the name of the table.
pub(crate) const TABLE_NAME: u16 = 1;
pub(crate) const TABLE_FLAGS: u16 = 2;
pub(crate) const TABLE_HANDLE: u16 = 4;
pub(crate) const CHAIN_NAME: u16 = 3;
pub(crate) const CHAIN_HOOK: u16 = 4;
pub(crate) const CHAIN_POLICY: u16 = 5;
pub(crate) const CHAIN_TYPE: u16 = 7;
pub(crate) const HOOK_POINT: u16 = 1;
pub(crate) const HOOK_PRIORITY: u16 = 2;
pub(crate) const RULE_CHAIN: u16 = 2;
pub(crate) const RULE_EXPRESSIONS: u16 = 4;
pub(crate) const SET_NAME: u16 = 2;
pub(crate) const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
pub(crate) const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
pub(crate) const SET_DATA_LEN: u16 = 7;
pub(crate) const SET_DESCRIPTION: u16 = 9;
const SET_ID: u16 = 10;
pub(crate) const SET_TIMEOUT: u16 = 11;
const SET_NOTE: u16 = 13;
pub(crate) const ELEMENTS_SET: u16 = 2;
pub(crate) const ELEMENTS_LIST: u16 = 3;
pub(crate) const ELEMENT_KEY: u16 = 1;
pub(crate) const ELEMENT_DATA: u16 = 2;
pub(crate) const ELEMENT_FLAGS: u16 = 3;
pub(crate) const ELEMENT_LAST_KEY: u16 = 10;
pub(crate) const DATA_VALUE: u16 = 1;
const LIST_ITEM: u16 = 1;

/// The table has no effect (`NFT_TABLE_F_DORMANT`).
pub(crate) const DORMANT: u32 = 1;
/// Nobody else can change or flush the table while the socket of its owner lives.
const OWNED: u32 = 2;
/// It stays when that socket goes; the next who asks can own it.
const PERSISTENT: u32 = 4;

/// Verdicts that a chain with a hook can end in (`NF_DROP`, `NF_ACCEPT`).
pub(crate) const POLICY_DROP: u32 = 0;
const POLICY_ACCEPT: u32 = 1;

/// Whether an element only ends an interval.
pub(crate) const INTERVAL_END: u32 = 1;

/// What one message of elements may grow to: the length of a list is a number of two bytes.
const ELEMENTS_LEN_MAX: usize = 48 * 1024;

/// A note for the `nft` command (`NFTNL_UDATA_SET_KEYBYTEORDER`), without which it shows names of interfaces as empty. It
/// makes no difference to other keys.
const KEY_IN_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// How many keys packets may put into a set.
const SEEN_MAX: u32 = 65_536;

/// Who may change a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Only the socket that makes it.
    Ours,
    /// Everybody: before Linux 6.9 the table of an owner dies with it.
    Anybodys,
}

/// Deletes a table if there is one. Works on every kernel, because there is one by then.
pub(crate) fn delete_table(transaction: &mut Transaction, table: Table) {
    let name = |it: &mut Writer<'_>| {
        it.text(TABLE_NAME, NAME);
    };
    let make = Subject::new("replace table", table.title());
    transaction.add(make, (NEW_TABLE, CREATE, table.family()), name);
    let delete = Subject::new("delete table", table.title());
    transaction.add(delete, (DELETE_TABLE, 0, table.family()), name);
}

pub(crate) fn make_table(transaction: &mut Transaction, table: Table, ownership: Ownership) {
    let subject = Subject::new("make table", table.title());
    transaction.add(subject, (NEW_TABLE, CREATE, table.family()), |it| {
        it.text(TABLE_NAME, NAME);
        if ownership == Ownership::Ours {
            it.u32(TABLE_FLAGS, OWNED | PERSISTENT);
        }
    });
}

pub(crate) fn make_set(transaction: &mut Transaction, set: Set) {
    const INTERVAL: u32 = 4;
    const MAP: u32 = 8;
    const TIMEOUT: u32 = 0x10;
    const FILLED_BY_PACKETS: u32 = 0x20;
    const CONCATENATION: u32 = 0x80;
    let spec = set.spec();
    let flags = match spec.shape {
        Shape::Hash => 0,
        Shape::Intervals => INTERVAL,
        Shape::Boxes => INTERVAL | CONCATENATION,
        Shape::Seen { .. } => TIMEOUT | FILLED_BY_PACKETS,
        Shape::Counted => FILLED_BY_PACKETS,
    };
    let is_map = !spec.data.is_empty();
    let subject = Subject::new("make set", spec.name);
    transaction.add(subject, (NEW_SET, CREATE, spec.table.family()), |it| {
        it.text(TABLE_NAME, NAME).text(SET_NAME, spec.name);
        it.u32(SET_FLAGS, flags | if is_map { MAP } else { 0 });
        it.u32(SET_KEY_TYPE, display_type(spec.key)).u32(SET_KEY_LEN, number(fields_len(spec.key)));
        if is_map {
            it.u32(SET_DATA_TYPE, display_type(spec.data)).u32(SET_DATA_LEN, number(fields_len(spec.data)));
        }
        // Each set has a number in its transaction.
        it.u32(SET_ID, set as u32 + 1);
        it.bytes(SET_NOTE, &KEY_IN_HOST_ORDER);
        describe_set(it, set);
    });
}

/// Says what the kernel needs to choose how it keeps the elements (`nft_set_desc_attributes`).
fn describe_set(writer: &mut Writer<'_>, set: Set) {
    const SIZE: u16 = 1;
    const FIELDS: u16 = 2;
    const FIELD_LEN: u16 = 1;
    let spec = set.spec();
    match spec.shape {
        Shape::Hash | Shape::Intervals => {}
        Shape::Boxes => {
            writer.nested(SET_DESCRIPTION, |description| {
                description.nested(FIELDS, |fields| {
                    for field in spec.key {
                        fields.nested(LIST_ITEM, |it| {
                            it.u32(FIELD_LEN, number(field.len()));
                        });
                    }
                });
            });
        }
        Shape::Seen { .. } | Shape::Counted => {
            writer.nested(SET_DESCRIPTION, |it| {
                it.u32(SIZE, SEEN_MAX);
            });
        }
    }
    if let Shape::Seen { timeout_ms } = spec.shape {
        writer.u64(SET_TIMEOUT, timeout_ms);
    }
}

/// Makes a chain, without its rules: they may go to chains that come later.
pub(crate) fn make_chain(transaction: &mut Transaction, chain: &Chain) {
    let subject = Subject::new("make chain", chain.name);
    transaction.add(subject, (NEW_CHAIN, CREATE, chain.table.family()), |it| {
        it.text(TABLE_NAME, NAME).text(CHAIN_NAME, chain.name);
        if let Some(hook) = chain.hook {
            it.nested(CHAIN_HOOK, |at| {
                at.u32(HOOK_POINT, hook.point as u32).u32(HOOK_PRIORITY, hook.priority.cast_unsigned());
            });
            // A chain judges packets from the moment it is made, and its rules only from the end of the transaction.
            it.u32(CHAIN_POLICY, POLICY_ACCEPT).text(CHAIN_TYPE, hook.kind);
        }
    });
}

pub(crate) fn make_rule(transaction: &mut Transaction, chain: &Chain, rule: &Rule) {
    let subject = Subject::new("make a rule of chain", chain.name);
    transaction.add(subject, (NEW_RULE, CREATE | APPEND, chain.table.family()), |it| {
        it.text(TABLE_NAME, NAME).text(RULE_CHAIN, chain.name);
        it.nested(RULE_EXPRESSIONS, |list| {
            for expr in rule {
                expr.write(LIST_ITEM, list);
            }
        });
    });
}

/// Puts elements into a set. One that is there with the same data is no error.
pub(crate) fn put_elements(
    transaction: &mut Transaction,
    set: Set,
    object: &str,
    elements: impl IntoIterator<Item = impl Borrow<Element>>,
) {
    list_elements(transaction, ("put", object), (NEW_ELEMENTS, CREATE), set, elements);
}

/// Deletes elements of a set that are there.
pub(crate) fn delete_elements(
    transaction: &mut Transaction,
    set: Set,
    object: &str,
    elements: impl IntoIterator<Item = impl Borrow<Element>>,
) {
    list_elements(transaction, ("delete", object), (DELETE_ELEMENTS, 0), set, elements);
}

fn list_elements(
    transaction: &mut Transaction,
    (operation, object): (&'static str, &str),
    (kind, flags): (u16, u16),
    set: Set,
    elements: impl IntoIterator<Item = impl Borrow<Element>>,
) {
    let spec = set.spec();
    let mut elements = elements.into_iter().peekable();
    while elements.peek().is_some() {
        let subject = Subject::new(operation, object.to_owned());
        transaction.add(subject, (kind, flags, spec.table.family()), |it| {
            it.text(TABLE_NAME, NAME).text(ELEMENTS_SET, spec.name);
            it.nested(ELEMENTS_LIST, |list| {
                let start = list.len();
                while list.len() - start < ELEMENTS_LEN_MAX {
                    let Some(element) = elements.next() else { break };
                    write_element(list, element.borrow());
                }
            });
        });
    }
}

fn write_element(list: &mut Writer<'_>, element: &Element) {
    list.nested(LIST_ITEM, |it| {
        let values = [
            (ELEMENT_KEY, &element.key),
            (ELEMENT_LAST_KEY, &element.last_key),
            (ELEMENT_DATA, &element.data),
        ];
        for (kind, value) in values.into_iter().filter(|(_, value)| !value.is_empty()) {
            it.nested(kind, |data| {
                data.bytes(DATA_VALUE, value);
            });
        }
        if !element.begins {
            it.u32(ELEMENT_FLAGS, INTERVAL_END);
        }
    });
}

fn number(len: usize) -> u32 {
    u32::try_from(len).expect("keys are at most 64 bytes")
}
