//! What is put under fault: servers, however many and on whatever store.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use netloft_tests::Lab;
use netloft_tests::etcd::Cluster;
use netloft_tests::running::Running;
use nix::sys::signal::Signal;

/// How a registry is started, hurt and healed.
pub(crate) trait Deployment {
    /// Where the servers are, whether they run or not.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Kills a server (SIGKILL), in the middle of whatever it does.
    fn kill(&mut self, server: usize);

    /// Starts a server that was killed, with what it left; waits until it listens.
    fn restart(&mut self, server: usize);

    /// Stops a server (SIGSTOP), or lets it go on.
    fn freeze(&self, server: usize, is_frozen: bool);

    /// The directory that fills up with its disk, if there is one.
    fn data_dir(&self) -> Option<PathBuf>;

    /// Where servers reach from what they share with each other: each is parted from it by cutting off its address.
    fn ways(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// What they share, if they share anything.
    fn cluster(&mut self) -> Option<&mut Cluster> {
        None
    }

    /// What it promises beyond what every registry does.
    fn promises(&self) -> Promises;
}

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promises {
    /// Each change is one revision after the one before.
    pub(crate) has_dense_revisions: bool,
    /// A read sees every write answered before it began.
    pub(crate) has_linearizable_reads: bool,
    /// A watch that is resumed never begins with a `Reset`, since the history is longer than the test.
    pub(crate) remembers_everything: bool,
    /// How much longer a session lives after a server, or what servers share, was away.
    pub(crate) grace: Duration,
    /// How much longer it may always live, since it can have changed its server.
    pub(crate) takeover: Duration,
}

/// What can be chosen about a registry on its own disk.
#[derive(Debug, Clone)]
pub(crate) struct EmbeddedOptions {
    pub(crate) directory: PathBuf,
    pub(crate) history_len_max: usize,
}

/// One server on its embedded store.
pub(crate) struct Embedded<'a> {
    lab: &'a Lab,
    options: EmbeddedOptions,
    server: Option<Running>,
}

/// In a private network every port is free.
const ADDRESS: &str = "127.0.0.1:7400";
const GRACE: Duration = Duration::from_secs(1);

impl<'a> Embedded<'a> {
    pub(crate) fn start(lab: &'a Lab, options: EmbeddedOptions) -> Self {
        let mut deployment = Self { lab, options, server: None };
        deployment.restart(0);
        deployment
    }

    fn server(&self) -> &Running {
        self.server.as_ref().expect("it runs")
    }

    /// Asks the server to end, and fails unless it ends well.
    pub(crate) fn stop(mut self) {
        self.server.take().expect("it runs").stop().success();
    }
}

impl Deployment for Embedded<'_> {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![ADDRESS.parse().unwrap()]
    }

    fn kill(&mut self, _: usize) {
        self.server.take().expect("it runs").kill();
    }

    fn restart(&mut self, _: usize) {
        assert!(self.server.is_none(), "it runs already");
        let history = self.options.history_len_max.to_string();
        let grace = GRACE.as_millis().to_string();
        let directory = self.options.directory.to_str().unwrap();
        let arguments = [
            ["--listen", ADDRESS],
            ["--unix", "none"],
            ["--data-dir", directory],
            ["--history-len-max", &history],
            ["--grace-ms", &grace],
        ];
        let mut server = Running::spawn(self.lab.ours("registry-server", &arguments.concat()));
        server.line("listening on ");
        self.server = Some(server);
    }

    fn freeze(&self, _: usize, is_frozen: bool) {
        self.server().signal(if is_frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    fn data_dir(&self) -> Option<PathBuf> {
        Some(self.options.directory.clone())
    }

    fn promises(&self) -> Promises {
        Promises {
            has_dense_revisions: true,
            has_linearizable_reads: true,
            remembers_everything: self.options.history_len_max >= 16_384,
            grace: GRACE,
            takeover: Duration::ZERO,
        }
    }
}
