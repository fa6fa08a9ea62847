//! What others have decided for packets that nobody allows.

use crate::Error;
use crate::attribute::{find, find_text, find_u32};
use crate::firewall::Firewall;
use crate::message::Message;
use crate::object;
use crate::session::nft;
use crate::table::NAME;

/// A chain of somebody else that drops whatever none of its rules allows: a default deny.
///
/// What one chain drops no other can allow. To be reached over such a host, published ports have to be allowed there too.
/// Policies of the legacy `iptables` are not seen: they are not a part of nftables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DefaultDeny {
    /// What it drops.
    pub of: Traffic,
    /// The family of its table: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

/// What a packet has to do with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// It is for the host itself.
    ToHost,
    /// The host forwards it.
    Forwarded,
}

impl Firewall {
    /// The default denies of others, for what the host receives and for what it forwards.
    pub fn policies(&mut self) -> Result<Vec<DefaultDeny>, Error> {
        let get = (nft(object::GET_CHAIN), 0);
        let mut denies = self.session.dump(("list", "chains"), get, |_| (), read)?;
        denies.sort();
        Ok(denies)
    }
}

fn read(message: &Message<'_>) -> Option<DefaultDeny> {
    const INPUT: u32 = 1;
    const FORWARD: u32 = 2;
    let told = message.attributes();
    let family = match message.family()? {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        _ => return None,
    };
    let of = match find_u32(find(told, object::CHAIN_HOOK)?, object::HOOK_POINT)? {
        INPUT => Traffic::ToHost,
        FORWARD => Traffic::Forwarded,
        _ => return None,
    };
    let drops = find_u32(told, object::CHAIN_POLICY)? == object::POLICY_DROP;
    let table = find_text(told, object::TABLE_NAME).filter(|table| drops && *table != NAME)?;
    Some(DefaultDeny {
        of,
        family,
        table: table.to_owned(),
        chain: find_text(told, object::CHAIN_NAME)?.to_owned(),
    })
}
