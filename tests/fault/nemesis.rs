//! Who does the harm, by a seed, and writes it down.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use netloft_tests::disk::fill;
use netloft_tests::etcd::Cluster;
use netloft_tests::programs::tool;
use netloft_tests::running::Running;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use crate::client::LONG;
use crate::deployment::Deployment;
use crate::processes::ClientProcesses;
use crate::speaker::Speaker;
use crate::words::{Act, Answer, FAT, Record, now};

/// One kind of harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Kills a server (SIGKILL), and starts it again.
    KillServer,
    /// Kills a client that is a process of its own, and starts another.
    KillClient,
    /// Stops a server (SIGSTOP) for a while.
    Freeze,
    /// Stops it for moments, again and again: what came in meanwhile is carried out at once.
    Stutter,
    /// Drops what some clients send, what they are sent, or both; for a while, or on and off.
    Cut,
    /// Leaves no room on the disk of the registry for a while.
    FillDisk,
    /// Parts a server from what it shares with others, which its clients do not notice; or drops only what it asks, or
    /// only what it is answered.
    Part,
    /// Kills the leader of etcd, and starts it again.
    KillLeader,
    /// Stops it for a while.
    FreezeLeader,
    /// Kills all of etcd, and starts it again.
    KillEtcd,
}

/// What was done, so that a test can tell that it was not idle.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// In words, with the time since the beginning.
    pub(crate) log: Vec<String>,
    pub(crate) kinds: BTreeSet<Fault>,
    pub(crate) count: usize,
    /// When a server, or what servers share, was there again.
    pub(crate) healed: Vec<u64>,
    /// From when until when any of them stood still or was away.
    pub(crate) away: Vec<(u64, u64)>,
    /// Packets that were dropped.
    pub(crate) dropped: u64,
}

pub(crate) struct Nemesis<'a> {
    pub(crate) deployment: &'a mut dyn Deployment,
    pub(crate) clients: &'a mut ClientProcesses,
    /// Those who can be cut off.
    pub(crate) victims: Vec<IpAddr>,
    pub(crate) done: Done,
    /// What it did as a client.
    pub(crate) records: Vec<Record>,
    session: Option<String>,
    written: u64,
    dice: StdRng,
    began: Instant,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(
        deployment: &'a mut dyn Deployment,
        clients: &'a mut ClientProcesses,
        victims: Vec<IpAddr>,
        seed: u64,
    ) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self {
            deployment,
            clients,
            victims,
            done: Done::default(),
            records: Vec::new(),
            session: None,
            written: 0,
            dice,
            began: Instant::now(),
        }
    }

    /// Does harm of these kinds for a while, and heals everything. `caught_up` waits until those have seen everything
    /// whose word is taken for what happened.
    pub(crate) async fn rage(
        &mut self,
        faults: &[Fault],
        duration: Duration,
        mut caught_up: impl AsyncFnMut(),
    ) {
        self.began = Instant::now();
        if faults.is_empty() {
            sleep(duration).await;
        }
        // Each kind once, and then as it comes.
        let mut next = 0;
        while self.began.elapsed() < duration || next < faults.len() {
            sleep(self.moment(100, 700)).await;
            let fault = if next < faults.len() { faults[next] } else { faults[self.pick(faults.len())] };
            next += 1;
            self.done.kinds.insert(fault);
            self.done.count += 1;
            match fault {
                Fault::KillServer => {
                    self.kill_server().await;
                    caught_up().await;
                }
                Fault::KillClient => self.kill_client(),
                Fault::Freeze => self.freeze().await,
                Fault::Stutter => self.stutter().await,
                Fault::Cut => self.cut().await,
                Fault::FillDisk => self.fill_disk().await,
                Fault::Part => self.part().await,
                Fault::KillLeader => {
                    let leader = self.etcd().leader();
                    self.kill_members(&[leader]).await;
                }
                Fault::FreezeLeader => self.freeze_leader().await,
                Fault::KillEtcd => {
                    let all: Vec<usize> = (0..self.etcd().size()).collect();
                    self.kill_members(&all).await;
                }
            }
        }
        sleep(self.moment(300, 600)).await;
    }

    async fn kill_server(&mut self) {
        let server = self.pick(self.deployment.addresses().len());
        let pause = self.moment(0, 400);
        self.note(&format!("kill server {server}, away for {pause:?}"));
        let began = now();
        self.deployment.kill(server);
        sleep(pause).await;
        self.deployment.restart(server);
        self.is_healed(began);
        self.note(&format!("server {server} is back"));
    }

    fn kill_client(&mut self) {
        let client = self.clients.kill_one_of(&mut self.dice);
        self.note(&format!("killed client {client}, started another"));
    }

    async fn freeze(&mut self) {
        let server = self.pick(self.deployment.addresses().len());
        let span = self.moment(1_000, 3_000);
        self.note(&format!("stop server {server} for {span:?}"));
        let began = now();
        self.deployment.freeze(server, true);
        sleep(span).await;
        self.deployment.freeze(server, false);
        if self.deployment.cluster().is_some() {
            // The others may have taken it for gone.
            self.is_healed(began);
        } else {
            self.was_away(began);
        }
    }

    async fn stutter(&mut self) {
        let server = self.pick(self.deployment.addresses().len());
        self.note(&format!("server {server} stutters"));
        let began = now();
        for _ in 0..20 {
            let span = self.moment(20, 60);
            self.deployment.freeze(server, true);
            sleep(span).await;
            self.deployment.freeze(server, false);
            sleep(self.moment(5, 40)).await;
        }
        self.was_away(began);
    }

    async fn cut(&mut self) {
        let some = self.dice.random_range(1..=self.victims.len());
        let mut cut: Vec<IpAddr> = self.victims.clone();
        while cut.len() > some {
            cut.remove(self.pick(cut.len()));
        }
        let all = self.victims.len();
        self.note(&format!("cut off {} of {all}", cut.len()));
        self.drop_packets(&cut).await;
    }

    /// Parts one server from what it shares with others.
    async fn part(&mut self) {
        let ways = self.deployment.ways();
        let server = self.pick(ways.len());
        self.note(&format!("part server {server}"));
        let began = now();
        self.drop_packets(&ways[server..=server]).await;
        self.is_healed(began);
    }

    /// Drops what is sent from addresses, what is sent to them, or both; for a while, or on and off.
    async fn drop_packets(&mut self, cut: &[IpAddr]) {
        let sets: &[&str] = [&["requests", "answers"][..], &["requests"], &["answers"]][self.pick(3)];
        let (times, span) = if self.dice.random_range(0..3) == 0 {
            (5, self.moment(60, 250))
        } else {
            (1, self.moment(600, 2_500))
        };
        self.note(&format!("of them drop {sets:?}, {times} times {span:?}"));
        let list = cut.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        for _ in 0..times {
            let change = |verb: &str| {
                let lines = sets.iter().map(|set| format!("{verb} element inet fault {set} {{ {list} }}\n"));
                nft(&lines.collect::<String>());
            };
            change("add");
            sleep(span).await;
            change("delete");
            sleep(span / 2).await;
        }
        self.done.dropped = dropped();
    }

    async fn kill_members(&mut self, members: &[usize]) {
        let pause = self.moment(300, 2_500);
        self.note(&format!("kill members {members:?} of etcd, away for {pause:?}"));
        let began = now();
        for member in members {
            self.etcd().kill(*member);
        }
        sleep(pause).await;
        for member in members {
            self.etcd().restart(*member);
        }
        self.etcd().until_led();
        self.is_healed(began);
        self.note("etcd is back");
    }

    async fn freeze_leader(&mut self) {
        let leader = self.etcd().leader();
        let span = self.moment(1_000, 3_000);
        self.note(&format!("stop member {leader} of etcd, its leader, for {span:?}"));
        let began = now();
        self.etcd().signal(leader, Signal::SIGSTOP);
        sleep(span).await;
        self.etcd().signal(leader, Signal::SIGCONT);
        self.etcd().until_led();
        self.is_healed(began);
    }

    fn etcd(&mut self) -> &mut Cluster {
        self.deployment.cluster().expect("what is to fail is there")
    }

    /// Something is there again, and whatever was counted is counted anew.
    fn is_healed(&mut self, away_since: u64) {
        self.was_away(away_since);
        self.done.healed.push(now());
    }

    fn was_away(&mut self, since: u64) {
        self.done.away.push((since, now()));
    }

    async fn fill_disk(&mut self) {
        let directory = self.deployment.data_dir().expect("it has a disk");
        let ballast = directory.parent().expect("it is on a disk of its own").join("ballast");
        let span = self.moment(500, 1_500);
        fill(&ballast);
        let written = self.write_until_full().await;
        self.note(&format!("no room on the disk for {span:?}, after {written} more"));
        sleep(span).await;
        std::fs::remove_file(&ballast).unwrap();
        self.note("there is room again");
        // It looks once a second.
        sleep(Duration::from_millis(1_300)).await;
    }

    /// Uses up what the log has filled ahead.
    async fn write_until_full(&mut self) -> usize {
        let mut speaker = Speaker::new(self.deployment.addresses(), address(7));
        let session = self.session.get_or_insert(speaker.open(LONG).await).clone();
        for written in 0.. {
            self.written += 1;
            let (key, value) = (FAT.to_owned(), 2_000_000_000 + self.written);
            let act = Act::Register { key, session: session.clone(), value };
            let called = now();
            let answer = speaker.act(&act).await;
            let is_full = answer == Answer::Exhausted;
            self.records.push(Record { act, called, answered: now(), answer });
            if is_full {
                return written;
            }
        }
        unreachable!("no disk is infinite")
    }

    fn note(&mut self, what: &str) {
        let at = self.began.elapsed().as_secs_f64();
        self.done.log.push(format!("{at:6.2} s: {what}"));
    }

    fn moment(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.dice.random_range(from_ms..to_ms))
    }

    fn pick(&mut self, count: usize) -> usize {
        self.dice.random_range(0..count)
    }
}

/// Prepares the cutting off of addresses.
pub(crate) fn prepare_cuts() {
    nft("add table inet fault
         delete table inet fault
         table inet fault {
             counter dropped { }
             set requests { type ipv4_addr; }
             set answers { type ipv4_addr; }
             chain input {
                 type filter hook input priority 0; policy accept;
                 ip saddr @requests counter name dropped drop
                 ip daddr @answers counter name dropped drop
             }
             chain output {
                 type filter hook output priority 0; policy accept;
                 oifname != lo ip saddr @requests counter name dropped drop
             }
         }\n");
}

/// The address of somebody who can be cut off; those below 10 never are.
pub(crate) fn address(number: u8) -> IpAddr {
    IpAddr::from(Ipv4Addr::new(127, 0, 1, number))
}

fn nft(commands: &str) {
    let mut nft = Command::new(tool("nft"));
    nft.arg(commands);
    Running::spawn(nft).wait().success();
}

fn dropped() -> u64 {
    let mut list = Command::new(tool("nft"));
    list.args(["-j", "list", "counter", "inet", "fault", "dropped"]);
    let listed: serde_json::Value = serde_json::from_str(&Running::spawn(list).wait().success()).unwrap();
    listed["nftables"].as_array().unwrap().iter().find_map(|it| it["counter"]["packets"].as_u64()).unwrap()
}
