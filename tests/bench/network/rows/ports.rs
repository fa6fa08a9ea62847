//! Publishing one port where many are published already: only the packet filter, no sandbox.

use std::sync::Arc;

use anyhow::Result;

use crate::contender::Place;
use crate::field::Bench;
use crate::floor::{MAP, TABLE, load_ruleset};
use crate::netlink::{MapChange, Socket, port_element};
use crate::netloft::PortMap;
use netloft_tests::bench::peers::Peers;
use netloft_tests::bench::samples::Samples;
use netloft_tests::bench::table::{Figure, Table, Unit};

/// The first of the ports that stay, and the one that comes and goes.
const STAYING: u16 = 10_000;
const ONE_MORE: u16 = 9_999;
/// Where they all lead.
const TARGET: [u8; 4] = [10, 89, 0, 2];

/// Somebody who publishes ports.
trait Publisher: Send {
    /// Publishes so many at once.
    fn fill(&mut self, count: u16) -> Result<()>;
    fn publish(&mut self, port: u16) -> Result<()>;
    fn withdraw(&mut self, port: u16) -> Result<()>;
}

type Start = fn(&Arc<Place>) -> Result<Box<dyn Publisher>>;

/// Ours and the others.
const PUBLISHERS: [(&str, Start); 4] = [
    ("floor, one map element", |place| Ok(Box::new(Element(place.host.run(Socket::netfilter)??)))),
    ("netloft in process", |place| Ok(Box::new(PortMap::open(place)?))),
    ("nft, a process for an element", |place| Ok(Box::new(Nft(Arc::clone(place))))),
    ("iptables, a process for a rule", |place| Ok(Box::new(Iptables(Arc::clone(place))))),
];

pub(crate) fn run(bench: &Bench) -> Result<()> {
    for count in [0, 1_000, 10_000] {
        let mut publish =
            Table::new(format!("with {count} ports published: publish one"), Unit::Milliseconds);
        let mut withdraw =
            Table::new(format!("with {count} ports published: withdraw it"), Unit::Milliseconds);
        let mut field = Vec::new();
        for (index, (name, start)) in PUBLISHERS.into_iter().enumerate() {
            let place = bench.place(&format!("ports-{count}-{index}"))?;
            field.push((
                name,
                start_filled(&place, start, count),
                Samples::default(),
                Samples::default(),
                place,
            ));
        }
        for _ in 0..bench.effort(100, 10) {
            for (_, publisher, publish, withdraw, place) in &mut field {
                if let Ok(publisher) = publisher {
                    place.host.run(|| {
                        publish.time(|| publisher.publish(ONE_MORE));
                        withdraw.time(|| publisher.withdraw(ONE_MORE));
                    })?;
                }
            }
        }
        for (name, publisher, published, withdrawn, _) in field {
            let figure = |samples| publisher.as_ref().map_or_else(absent, |_| Figure::Times(samples));
            publish.line(name, figure(published));
            withdraw.line(name, figure(withdrawn));
        }
        publish.print()?;
        withdraw.print()?;
    }
    Ok(())
}

fn absent(error: &anyhow::Error) -> Figure {
    Figure::Absent(format!("{error:#}"))
}

fn start_filled(place: &Arc<Place>, start: Start, count: u16) -> Result<Box<dyn Publisher>> {
    let mut publisher = start(place)?;
    place.host.run(|| {
        load_ruleset(&place.peers)?;
        publisher.fill(count)
    })??;
    Ok(publisher)
}

impl Publisher for PortMap {
    fn fill(&mut self, count: u16) -> Result<()> {
        self.establish(STAYING..STAYING + count)
    }

    fn publish(&mut self, port: u16) -> Result<()> {
        self.publish(port)
    }

    fn withdraw(&mut self, port: u16) -> Result<()> {
        self.withdraw(port)
    }
}

/// Raw netlink: a transaction with one element.
struct Element(Socket);

impl Element {
    fn change(&self, change: MapChange, ports: impl Iterator<Item = u16>) -> Result<()> {
        let elements: Vec<_> = ports.map(|port| port_element(change, port, TARGET, 80)).collect();
        // As many as fit into one attribute.
        elements.chunks(500).try_for_each(|chunk| self.0.change_map(change, TABLE, MAP, chunk))
    }
}

impl Publisher for Element {
    fn fill(&mut self, count: u16) -> Result<()> {
        self.change(MapChange::Add, STAYING..STAYING + count)
    }

    fn publish(&mut self, port: u16) -> Result<()> {
        self.change(MapChange::Add, std::iter::once(port))
    }

    fn withdraw(&mut self, port: u16) -> Result<()> {
        self.change(MapChange::Delete, std::iter::once(port))
    }
}

/// A process of nft for each change.
struct Nft(Arc<Place>);

impl Nft {
    fn run(&self, script: &str) -> Result<()> {
        let mut nft = self.0.peers.command("nft");
        nft.args(["-f", "-"]);
        Peers::run(nft, script.as_bytes()).map(drop)
    }
}

impl Publisher for Nft {
    fn fill(&mut self, count: u16) -> Result<()> {
        let line = |port| format!("add element ip {TABLE} {MAP} {{ {port} : 10.89.0.2 . 80 }}\n");
        self.run(&(STAYING..STAYING + count).map(line).collect::<String>())
    }

    fn publish(&mut self, port: u16) -> Result<()> {
        self.run(&format!("add element ip {TABLE} {MAP} {{ {port} : 10.89.0.2 . 80 }}\n"))
    }

    fn withdraw(&mut self, port: u16) -> Result<()> {
        self.run(&format!("delete element ip {TABLE} {MAP} {{ {port} }}\n"))
    }
}

/// A process of iptables for each change, as the runtimes have it that came before nftables.
struct Iptables(Arc<Place>);

impl Iptables {
    fn change(&self, verb: &str, port: u16) -> Result<()> {
        self.0.peers.tool("iptables", &format!("-w -t nat -{verb} {}", rule(port))).map(drop)
    }
}

fn rule(port: u16) -> String {
    format!("PREROUTING -p tcp --dport {port} -j DNAT --to-destination 10.89.0.2:80")
}

impl Publisher for Iptables {
    fn fill(&mut self, count: u16) -> Result<()> {
        let rules: Vec<_> = (STAYING..STAYING + count).map(|port| format!("-A {}\n", rule(port))).collect();
        let restore = self.0.peers.command("iptables-restore");
        Peers::run(restore, format!("*nat\n{}COMMIT\n", rules.concat()).as_bytes()).map(drop)
    }

    fn publish(&mut self, port: u16) -> Result<()> {
        self.change("A", port)
    }

    fn withdraw(&mut self, port: u16) -> Result<()> {
        self.change("D", port)
    }
}
