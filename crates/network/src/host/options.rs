//! How a host is to be opened.

use std::path::PathBuf;
use std::time::Duration;

use netloft_ipam::PoolOptions;
use netloft_netns::Netns;
use netloft_types::{Invalid, Segment, Subnet};

use crate::state::CARVED_PREFIX_LEN;

/// How a host is to be opened.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The namespace in which bridges are made; that of the calling thread if absent.
    pub netns: Option<Netns>,
    /// The directory in which the namespaces of sandboxes are kept by name. Without it, a sandbox lives as long as it is
    /// attached or somebody has it open.
    pub netns_dir: Option<PathBuf>,
    /// The directory of the journal; needs `netns_dir`. Without it nothing is remembered.
    pub state_dir: Option<PathBuf>,
    /// What subnets are carved from for networks that name none: IPv4 prefixes of at most 24 bits.
    pub default_pools: Vec<Subnet>,
    /// How long an address rests after its release before another sandbox gets it.
    pub rest: Duration,
    /// Whether ports that are published at no address in particular answer to the host alone while a firewall of the
    /// host drops whatever nobody let in. Publishing at an address of the host then opens a port on purpose.
    pub respect_firewall: bool,
}

/// The namespace of the calling thread, no directories, subnets from `10.80.0.0/12`, and 130 s of rest.
impl Default for HostOptions {
    fn default() -> Self {
        let pool = Subnet::new([10, 80, 0, 0].into(), 12).expect("10.80.0.0/12 has no bits after the prefix");
        Self {
            netns: None,
            netns_dir: None,
            state_dir: None,
            default_pools: vec![pool],
            rest: PoolOptions::default().rest,
            respect_firewall: false,
        }
    }
}

/// Whether subnets of networks can be carved from all of these.
pub(super) fn check_pools(pools: &[Subnet]) -> Result<(), Invalid> {
    pools.iter().try_for_each(|pool| {
        if !pool.is_ipv4() || pool.prefix_len() > CARVED_PREFIX_LEN {
            let rule = format!("must be an IPv4 prefix of at most {CARVED_PREFIX_LEN} bits");
            return Err(Invalid::new("default pool", pool, rule));
        }
        Segment::new(*pool).map(drop)
    })
}
