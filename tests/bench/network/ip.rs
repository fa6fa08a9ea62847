//! The `ip` program: one process of iproute2 per step.

use std::sync::Arc;

use anyhow::Result;

use crate::contender::{Order, Place, Port, Worker};
use crate::floor::load_ruleset;

pub(crate) struct Ip {
    place: Arc<Place>,
}

impl Ip {
    pub(crate) fn workers(place: &Arc<Place>, count: usize) -> Result<Vec<Box<dyn Worker>>> {
        let new = || Self { place: Arc::clone(place) };
        place.host.run(|| {
            new().create_bridge("br0", "10.89.0.1/16")?;
            // The table that people write who know how.
            load_ruleset(&place.peers)
        })??;
        Ok((0..count).map(|_| Box::new(new()) as Box<dyn Worker>).collect())
    }

    /// The program keeps the names of everybody in one directory.
    fn netns(&self, order: Order) -> String {
        format!("{}-{}", self.place.name, order.slot)
    }

    fn create_bridge(&self, name: &str, gateway: &str) -> Result<()> {
        self.run(&format!("link add {name} type bridge"))?;
        self.run(&format!("addr add {gateway} dev {name}"))?;
        self.run(&format!("link set {name} up"))
    }

    fn run(&self, arguments: &str) -> Result<()> {
        self.place.peers.tool("ip", arguments).map(drop)
    }

    fn nft(&self, arguments: &str) -> Result<()> {
        self.place.peers.tool("nft", arguments).map(drop)
    }
}

impl Worker for Ip {
    fn attach(&mut self, order: Order) -> Result<()> {
        let (name, host_link) = (self.netns(order), format!("v{}", order.slot));
        self.run(&format!("netns add {name}"))?;
        self.run(&format!("link add {host_link} master br0 type veth peer name eth0 netns {name}"))?;
        self.run(&format!("link set {host_link} up"))?;
        self.run(&format!("-n {name} link set lo up"))?;
        self.run(&format!("-n {name} link set eth0 up"))?;
        self.run(&format!("-n {name} addr add {}/16 dev eth0", order.address()))?;
        self.run(&format!("-n {name} route add default via 10.89.0.1"))?;
        if order.port == Port::Published {
            let (port, address) = (order.host_port(), order.address());
            self.nft(&format!("add element ip floor ports {{ {port} : {address} . 80 }}"))?;
        }
        Ok(())
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        if order.port == Port::Published {
            self.nft(&format!("delete element ip floor ports {{ {} }}", order.host_port()))?;
        }
        self.run(&format!("link del v{}", order.slot))?;
        self.run(&format!("netns del {}", self.netns(order)))
    }

    fn create_network(&mut self, number: u8) -> Result<()> {
        self.create_bridge(&format!("n{number}"), &format!("10.200.{number}.1/24"))
    }

    fn remove_network(&mut self, number: u8) -> Result<()> {
        self.run(&format!("link del n{number}"))
    }
}

/// Takes away the namespaces that are still attached.
impl Drop for Ip {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!("{}-", self.place.name)) {
                let _ = self.run(&format!("netns del {name}"));
            }
        }
    }
}
