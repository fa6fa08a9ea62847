//! The chain of CNI plugins that a container runtime runs for a bridge network: `bridge` with `host-local` addresses,
//! `portmap` and `firewall`. One process each for every attachment and detachment, as the CNI specification has it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::contender::{Order, Place, Port, Task, Worker};
use crate::crash::{Call, Verb, Victim};
use netloft_tests::bench::peers::Peers;

/// What its network is called, and the directory of its addresses.
pub(crate) const NETWORK: &str = "blue";

pub(crate) struct Cni {
    place: Arc<Place>,
    plugins: PathBuf,
    /// What the plugins answered, which they want to see again.
    results: HashMap<Order, Value>,
}

impl Cni {
    pub(crate) fn workers(place: &Arc<Place>, count: usize) -> Result<Vec<Box<dyn Worker>>> {
        (0..count).map(|_| Ok(Box::new(Self::new(place)?) as Box<dyn Worker>)).collect()
    }

    pub(crate) fn new(place: &Arc<Place>) -> Result<Self> {
        let plugins = place.peers.debian("usr/lib/cni/bridge")?;
        let plugins = plugins.parent().context("it is in a directory")?.to_owned();
        Ok(Self { place: Arc::clone(place), plugins, results: HashMap::new() })
    }

    /// The plugins in the order of an attachment; a detachment goes the other way.
    fn chain(order: Order) -> &'static [&'static str] {
        match order.port {
            Port::None => &["bridge", "firewall"],
            Port::Published => &["bridge", "portmap", "firewall"],
        }
    }

    /// The run of a plugin that is next: knows what came before.
    fn run_of(&self, plugin: &str, verb: &str, order: Order) -> Result<Call> {
        let mut config = self.config(plugin, order);
        if let Some(previous) = self.results.get(&order) {
            config["prevResult"] = previous.clone();
        }
        let mut command = self.place.peers.command(self.plugins.join(plugin));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", order.container_id())
            .env("CNI_NETNS", self.place.sandbox(order)?)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins);
        Ok(Call { command, input: config.to_string().into_bytes() })
    }

    fn config(&self, plugin: &str, order: Order) -> Value {
        let mut config = match plugin {
            "bridge" => json!({
                "bridge": "br0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": self.place.directory,
                    "ranges": [[{"subnet": "10.89.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            }),
            "portmap" => json!({
                "capabilities": {"portMappings": true},
                "runtimeConfig": {"portMappings": [
                    {"hostPort": order.host_port(), "containerPort": 80, "protocol": "tcp"},
                ]},
            }),
            _ => json!({"backend": "iptables"}),
        };
        config["cniVersion"] = "0.4.0".into();
        config["name"] = NETWORK.into();
        config["type"] = plugin.into();
        config
    }
}

impl Worker for Cni {
    fn refuses(&self, task: Task) -> Option<&'static str> {
        (task == Task::Networks).then_some("makes its bridge with the first sandbox")
    }

    fn prepare(&mut self, orders: &[Order]) -> Result<()> {
        orders.iter().try_for_each(|order| self.place.sandbox(*order).map(drop))
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        for plugin in Self::chain(order) {
            let call = self.run_of(plugin, "ADD", order)?;
            let answer = Peers::run(call.command, &call.input)?;
            self.note(order, &answer)?;
        }
        Ok(())
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        for plugin in Self::chain(order).iter().rev() {
            let call = self.run_of(plugin, "DEL", order)?;
            Peers::run(call.command, &call.input)?;
        }
        self.results.remove(&order);
        Ok(())
    }
}

impl Victim for Cni {
    fn programs(&self) -> &'static [&'static str] {
        &["bridge", "portmap", "firewall"]
    }

    fn call(&self, program: &'static str, verb: Verb, order: Order) -> Result<Call> {
        self.run_of(program, if verb == Verb::Attach { "ADD" } else { "DEL" }, order)
    }

    /// Keeps the result, which the next plugin wants to see.
    fn note(&mut self, order: Order, answer: &[u8]) -> Result<()> {
        self.results.insert(order, serde_json::from_slice(answer)?);
        Ok(())
    }
}

/// `host-local` alone: a file for each address.
pub(crate) struct HostLocal {
    peers: Arc<Peers>,
    program: PathBuf,
    directory: PathBuf,
}

impl HostLocal {
    /// Its directory as it would be after so many addresses of 10.99.0.0/16 were given.
    pub(crate) fn with(given: u32, directory: &Path, peers: &Arc<Peers>) -> Result<Self> {
        let program = peers.debian("usr/lib/cni/host-local")?;
        let files = directory.join(NETWORK);
        if files.exists() {
            std::fs::remove_dir_all(&files)?;
        }
        std::fs::create_dir_all(&files)?;
        let address = |number: u32| std::net::Ipv4Addr::from_bits(0x0a63_0001 + number);
        for number in 1..=given {
            let owner = format!("{:064x}\r\neth0", 0xdef_0000_0000_u64 + u64::from(number));
            std::fs::write(files.join(address(number).to_string()), owner)?;
        }
        std::fs::write(files.join("last_reserved_ip.0"), address(given).to_string())?;
        Ok(Self { peers: Arc::clone(peers), program, directory: directory.to_owned() })
    }

    pub(crate) fn run(&self, verb: &str, order: Order) -> Result<()> {
        let config = json!({
            "cniVersion": "0.4.0", "name": NETWORK,
            "ipam": {"type": "host-local", "dataDir": self.directory, "ranges": [[{"subnet": "10.99.0.0/16"}]]},
        });
        let mut command = self.peers.command(&self.program);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", order.container_id())
            .env("CNI_NETNS", "/proc/1/ns/net")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/");
        Peers::run(command, config.to_string().as_bytes()).map(drop)
    }
}
