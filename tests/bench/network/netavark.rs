//! netavark as podman calls it: one process for each attachment and detachment. Addresses are podman's to give, so none
//! are given here; names (aardvark-dns) are left out, because nobody else in the field resolves them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::contender::{Order, Place, Port, Task, Worker};
use crate::crash::{Call, Verb, Victim};
use netloft_tests::bench::peers::Peers;

pub(crate) struct Netavark {
    place: Arc<Place>,
    program: PathBuf,
}

impl Netavark {
    pub(crate) fn workers(place: &Arc<Place>, count: usize, program: &Path) -> Vec<Box<dyn Worker>> {
        let new = |_| Box::new(Self::new(place, program.to_owned())) as Box<dyn Worker>;
        (0..count).map(new).collect()
    }

    pub(crate) fn new(place: &Arc<Place>, program: PathBuf) -> Self {
        Self { place: Arc::clone(place), program }
    }

    fn run_of(&self, verb: &str, order: Order) -> Result<Call> {
        let mut command = self.place.peers.command(&self.program);
        command.arg("--config").arg(&self.place.directory).args(["--rootless", "false"]);
        // Only named; nothing here asks for it.
        command.args(["--aardvark-binary", "/nonexistent", verb]).arg(self.place.sandbox(order)?);
        Ok(Call { command, input: options(order).to_string().into_bytes() })
    }

    fn run(&self, verb: &str, order: Order) -> Result<()> {
        let Call { command, input } = self.run_of(verb, order)?;
        Peers::run(command, &input).map(drop)
    }
}

fn options(order: Order) -> Value {
    let ports = match order.port {
        Port::None => Value::Null,
        Port::Published => json!([
            {"container_port": 80, "host_ip": "", "host_port": order.host_port(), "protocol": "tcp", "range": 1},
        ]),
    };
    json!({
        "container_id": order.container_id(),
        "container_name": order.name(),
        "port_mappings": ports,
        "networks": {"blue": {"interface_name": "eth0", "static_ips": [order.address()]}},
        "network_info": {"blue": {
            "dns_enabled": false, "driver": "bridge", "internal": false, "ipv6_enabled": false,
            "id": "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e",
            "name": "blue", "network_interface": "br0",
            "subnets": [{"gateway": "10.89.0.1", "subnet": "10.89.0.0/16"}],
        }},
    })
}

impl Worker for Netavark {
    fn refuses(&self, task: Task) -> Option<&'static str> {
        (task == Task::Networks).then_some("makes its bridge with the first sandbox")
    }

    fn prepare(&mut self, orders: &[Order]) -> Result<()> {
        orders.iter().try_for_each(|order| self.place.sandbox(*order).map(drop))
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        self.run("setup", order)
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        self.run("teardown", order)
    }
}

impl Victim for Netavark {
    fn programs(&self) -> &'static [&'static str] {
        &["netavark"]
    }

    fn call(&self, _: &'static str, verb: Verb, order: Order) -> Result<Call> {
        self.run_of(if verb == Verb::Attach { "setup" } else { "teardown" }, order)
    }

    fn note(&mut self, _: Order, _: &[u8]) -> Result<()> {
        Ok(())
    }
}
