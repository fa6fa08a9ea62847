//! Expressions, of which rules are made: one function for each kind that the kernel knows.
//!
//! A rule is a list of expressions that work on sixteen registers of four bytes each. Loads fill registers from the
//! packet; comparisons and lookups end the rule unless they hold; statements act. An expression that cannot do its work,
//! such as a load beyond the end of the packet, ends the rule too.
//!
//! The numbers are those of `linux/netfilter/nf_tables.h`; each function names the list of its attributes.

use crate::attribute::Writer;

/// One expression: its name and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expr {
    name: &'static str,
    attributes: Vec<u8>,
}

/// A register of four bytes, from 0 to 15. What is longer fills those that follow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// The kernel's number (`NFT_REG32_00`); lower ones mean registers of sixteen bytes.
    const fn number(self) -> u32 {
        8 + self.0
    }
}

impl Expr {
    fn new(name: &'static str, fill: impl FnOnce(&mut Writer<'_>)) -> Self {
        let mut attributes = Vec::new();
        fill(&mut Writer::new(&mut attributes));
        Self { name, attributes }
    }

    /// Writes it as an attribute (`nft_expr_attributes`).
    pub(crate) fn write(&self, kind: u16, writer: &mut Writer<'_>) {
        writer.nested(kind, |it| {
            it.text(1, self.name).nested(2, |data| {
                data.raw(&self.attributes);
            });
        });
    }
}

/// A fact about the packet that is not in its bytes (`nft_meta_keys`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    IncomingIndex = 4,
    OutgoingIndex = 5,
    IncomingName = 6,
    OutgoingName = 7,
    Family = 15,
    Protocol = 16,
    IncomingKind = 26,
}

/// Loads a fact about the packet (`nft_meta_attributes`).
pub(crate) fn meta(key: Meta, into: Register) -> Expr {
    Expr::new("meta", |it| {
        it.u32(2, key as u32).u32(1, into.number());
    })
}

/// A header of the packet (`nft_payload_bases`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// Loads bytes of the packet (`nft_payload_attributes`).
pub(crate) fn payload(header: Header, offset: u32, len: u32, into: Register) -> Expr {
    Expr::new("payload", |it| {
        it.u32(1, into.number()).u32(2, header as u32).u32(3, offset).u32(4, len);
    })
}

/// The IPv6 fragment header (RFC 8200, section 4.5).
const FRAGMENT_HEADER: u8 = 44;

/// Loads whether the packet has an IPv6 fragment header, as one byte (`nft_exthdr_attributes`).
pub(crate) fn has_fragment_header(into: Register) -> Expr {
    const PRESENT: u32 = 1;
    Expr::new("exthdr", |it| {
        it.u32(1, into.number()).u8(2, FRAGMENT_HEADER).u32(3, 0).u32(4, 1).u32(5, PRESENT);
    })
}

/// Loads the offset of an IPv6 fragment with its flags, two bytes (`nft_exthdr_attributes`).
pub(crate) fn fragment_offset(into: Register) -> Expr {
    Expr::new("exthdr", |it| {
        it.u32(1, into.number()).u8(2, FRAGMENT_HEADER).u32(3, 2).u32(4, 2);
    })
}

/// What the kernel knows of a connection (`nft_ct_keys`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ct {
    State = 0,
    Status = 2,
}

/// Loads what the kernel knows of the connection, as four bytes of its own order (`nft_ct_attributes`).
pub(crate) fn ct(key: Ct, into: Register) -> Expr {
    Expr::new("ct", |it| {
        it.u32(1, into.number()).u32(2, key as u32);
    })
}

/// Which addresses count as the host's own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Locality {
    /// Those of any interface.
    Anywhere = 0,
    /// Those of the interface by which the packet came (`NFTA_FIB_F_IIF`).
    AtIncoming = 8,
}

/// Loads the type of the destination address, four bytes of the host's order (`nft_fib_attributes`).
pub(crate) fn fib_destination_type(locality: Locality, into: Register) -> Expr {
    const ADDRESS_TYPE: u32 = 3;
    const DESTINATION: u32 = 2;
    Expr::new("fib", |it| {
        it.u32(1, into.number()).u32(2, ADDRESS_TYPE).u32(3, DESTINATION | locality as u32);
    })
}

/// How to compare (`nft_cmp_ops`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cmp {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// Goes on if a register compares so with a value, byte by byte (`nft_cmp_attributes`).
pub(crate) fn cmp(register: Register, how: Cmp, value: &[u8]) -> Expr {
    Expr::new("cmp", |it| {
        it.u32(1, register.number()).u32(2, how as u32).nested(3, |data| {
            data.bytes(1, value);
        });
    })
}

/// Keeps the bits of a register that a mask has (`nft_bitwise_attributes`).
pub(crate) fn mask(register: Register, bits: &[u8]) -> Expr {
    let len = u32::try_from(bits.len()).expect("a mask is at most 16 bytes");
    Expr::new("bitwise", |it| {
        it.u32(1, register.number()).u32(2, register.number()).u32(3, len);
        it.nested(4, |data| {
            data.bytes(1, bits);
        });
        it.nested(5, |data| {
            data.bytes(1, &vec![0; bits.len()]);
        });
    })
}

/// Whether a lookup goes on when the key is there or when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    OnIfThere,
    OnIfAbsent,
}

/// Goes on if the key in a register is in a set, or is not (`nft_lookup_attributes`).
pub(crate) fn lookup(set: &str, key: Register, goes: Goes) -> Expr {
    const INVERTED: u32 = 1;
    Expr::new("lookup", |it| {
        it.text(1, set).u32(2, key.number());
        if goes == Goes::OnIfAbsent {
            it.u32(5, INVERTED);
        }
    })
}

/// Goes on if the key in a register is in a map, and loads what it stands for (`nft_lookup_attributes`).
pub(crate) fn map(map: &str, key: Register, into: Register) -> Expr {
    Expr::new("lookup", |it| {
        it.text(1, map).u32(2, key.number()).u32(3, into.number());
    })
}

/// Adds the key in a register to a set, or starts its time anew; always goes on (`nft_dynset_attributes`).
pub(crate) fn remember(set: &str, key: Register) -> Expr {
    const UPDATE: u32 = 1;
    Expr::new("dynset", |it| {
        it.text(1, set).u32(3, UPDATE).u32(4, key.number());
    })
}

/// Counts the connection under the key in a register, and goes on if there are more than so many
/// (`nft_dynset_attributes`, `nft_connlimit_attributes`).
pub(crate) fn more_connections_than(max: u32, set: &str, key: Register) -> Expr {
    const ADD: u32 = 0;
    const OVER: u32 = 1;
    let limit = Expr::new("connlimit", |it| {
        it.u32(1, max).u32(2, OVER);
    });
    Expr::new("dynset", |it| {
        it.text(1, set).u32(3, ADD).u32(4, key.number());
        limit.write(7, it);
    })
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Goto(&'static str),
}

/// Ends the rule with a verdict (`nft_immediate_attributes`, `nft_verdict_attributes`).
pub(crate) fn verdict(verdict: Verdict) -> Expr {
    const VERDICT_REGISTER: u32 = 0;
    let (code, chain): (i32, _) = match verdict {
        Verdict::Accept => (1, None),
        Verdict::Drop => (0, None),
        Verdict::Return => (-5, None),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    Expr::new("immediate", |it| {
        it.u32(1, VERDICT_REGISTER).nested(2, |data| {
            data.nested(2, |verdict| {
                verdict.u32(1, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    })
}

/// Refuses a TCP connection with a reset (`nft_reject_attributes`).
pub(crate) fn reject_with_reset() -> Expr {
    const TCP_RESET: u32 = 1;
    Expr::new("reject", |it| {
        it.u32(1, TCP_RESET).u8(2, 0);
    })
}

/// Refuses a packet with the ICMP message, of either version, that policy forbids it (`nft_reject_attributes`).
pub(crate) fn reject_as_prohibited() -> Expr {
    const ICMPX: u32 = 2;
    const ADMIN_PROHIBITED: u8 = 3;
    Expr::new("reject", |it| {
        it.u32(1, ICMPX).u8(2, ADMIN_PROHIBITED);
    })
}

/// Sends the connection to the address in a register, and the port in another (`nft_nat_attributes`).
pub(crate) fn dnat(family: u8, address: Register, port: Option<Register>) -> Expr {
    const DESTINATION: u32 = 1;
    Expr::new("nat", |it| {
        it.u32(1, DESTINATION).u32(2, family.into()).u32(3, address.number());
        if let Some(port) = port {
            it.u32(5, port.number());
        }
    })
}

/// Gives the connection an address of the outgoing interface for its source (`nft_masq_attributes`).
pub(crate) fn masquerade() -> Expr {
    Expr::new("masq", |_| ())
}
