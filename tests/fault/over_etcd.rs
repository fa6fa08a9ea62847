//! Two servers over a cluster of etcd that can be hurt, too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use netloft_tests::Lab;
use netloft_tests::etcd::{Cluster, Way};
use netloft_tests::running::Running;
use nix::sys::signal::Signal;

use crate::deployment::{Deployment, Promises};

const MEMBERS: u8 = 3;
/// In a private network every port is free.
const ADDRESSES: [&str; 2] = ["127.0.0.1:7400", "127.0.0.1:7401"];
/// The shortest that etcd grants.
const LEASE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);
/// How much longer a session is counted that changed its server.
const TAKEOVER: Duration = Duration::from_secs(3);
/// Etcd looks for leases that ran out twice a second.
const ETCD_LOOKS: Duration = Duration::from_millis(500);

/// Servers that share what they know.
pub(crate) struct OverEtcd<'a> {
    lab: &'a Lab,
    // Before the cluster, of which they take their leave.
    servers: Vec<Option<Running>>,
    ways: Vec<Way>,
    cluster: Cluster,
}

impl<'a> OverEtcd<'a> {
    pub(crate) fn start(lab: &'a Lab) -> Self {
        let cluster = Cluster::start(MEMBERS);
        let ways = (1..).zip(ADDRESSES).map(|(number, _)| cluster.lay_way(number)).collect();
        let servers = ADDRESSES.map(|_| None).into();
        let mut deployment = Self { lab, servers, ways, cluster };
        (0..ADDRESSES.len()).for_each(|server| deployment.restart(server));
        deployment
    }

    /// Asks the servers to end, and fails unless they end well.
    pub(crate) fn stop(self) {
        for server in self.servers {
            server.expect("it runs").stop().success();
        }
    }
}

impl Deployment for OverEtcd<'_> {
    fn addresses(&self) -> Vec<SocketAddr> {
        ADDRESSES.map(|address| address.parse().unwrap()).into()
    }

    fn kill(&mut self, server: usize) {
        self.servers[server].take().expect("it runs").kill();
    }

    fn restart(&mut self, server: usize) {
        assert!(self.servers[server].is_none(), "it runs already");
        let (lease, grace) = (LEASE.as_secs().to_string(), GRACE.as_millis().to_string());
        let endpoints = self.ways[server].endpoints.join(",");
        let arguments = [
            ["--listen", ADDRESSES[server]],
            ["--unix", "none"],
            ["--store", "etcd"],
            ["--etcd-endpoint", &endpoints],
            ["--etcd-lease-s", &lease],
            ["--grace-ms", &grace],
        ];
        let mut process = Running::spawn(self.lab.ours("registry-server", &arguments.concat()));
        process.line("listening on ");
        self.servers[server] = Some(process);
    }

    fn freeze(&self, server: usize, is_frozen: bool) {
        let signal = if is_frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.servers[server].as_ref().expect("it runs").signal(signal);
    }

    fn data_dir(&self) -> Option<PathBuf> {
        None
    }

    fn ways(&self) -> Vec<IpAddr> {
        self.ways.iter().map(|way| way.from).collect()
    }

    fn cluster(&mut self) -> Option<&mut Cluster> {
        Some(&mut self.cluster)
    }

    fn promises(&self) -> Promises {
        Promises {
            has_dense_revisions: true,
            has_linearizable_reads: true,
            // A server that was not told yet what another one told cannot know that it is the same history.
            remembers_everything: false,
            // When a leader is elected all leases are given their whole time again.
            grace: GRACE + LEASE * 2 + ETCD_LOOKS * 2,
            takeover: TAKEOVER,
        }
    }
}
