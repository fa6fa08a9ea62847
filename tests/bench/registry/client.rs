//! What every registry is asked to do, by a client of its own kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// How many services there are.
pub(crate) const SERVICES: u32 = 1_000;

/// One client with a connection to itself.
#[tonic::async_trait]
pub(crate) trait Client: Send {
    /// Registers an instance, to be there for as long as this client is alive to the registry.
    async fn register(&mut self, instance: Instance) -> Result<()>;

    /// Asks for all instances of a service with all that is known of them; answers their numbers.
    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>>;

    /// Says that it is alive, and waits until the registry has taken note.
    async fn heartbeat(&mut self) -> Result<()>;

    /// Begins to watch a service; what is registered from when this returns is seen.
    async fn watch(&mut self, service: u32) -> Result<()>;

    /// Waits until it has all that is known of some instances that are new; answers their numbers.
    async fn changed(&mut self) -> Result<Vec<u32>>;

    /// Is not alive any more, nor is what it registered.
    async fn finish(&mut self) -> Result<()>;
}

/// Instances that nobody has registered before, of the services in turn. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Instances(Arc<AtomicU32>);

impl Instances {
    pub(crate) fn draw(&self) -> Instance {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Instance { number, service: number % SERVICES }
    }
}

/// What is registered: everybody says the same of an instance, some 200 bytes beside its id, name and address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    pub(crate) number: u32,
    pub(crate) service: u32,
}

/// What the id of every instance begins with.
pub(crate) const ID_PREFIX: &str = "instance-";

impl Instance {
    pub(crate) const TAGS: [&str; 3] = ["v2", "primary", "canary"];
    pub(crate) const METADATA: [(&str, &str); 5] = [
        ("version", "2.14.0"),
        ("protocol", "grpc"),
        ("team", "payments"),
        ("commit", "5f0c6a1d9be34e27a8d1c0f2b7e4936182ad5c7e"),
        ("image", "registry.example.com/payments/ledger@sha256:0d9c1b3f7a2e4856"),
    ];

    pub(crate) fn id(self) -> String {
        format!("{ID_PREFIX}{}", self.number)
    }

    pub(crate) fn service_name(self) -> String {
        service_name(self.service)
    }

    pub(crate) fn address(self) -> String {
        let [_, two, three, four] = self.number.to_be_bytes();
        format!("10.{two}.{three}.{four}")
    }

    pub(crate) fn port(self) -> u32 {
        20_000 + self.number % 40_000
    }

    pub(crate) fn metadata() -> serde_json::Map<String, Value> {
        Self::METADATA.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    }

    /// For those who keep bytes.
    pub(crate) fn json(self) -> Vec<u8> {
        json!({
            "id": self.id(),
            "service": self.service_name(),
            "address": self.address(),
            "port": self.port(),
            "tags": Self::TAGS,
            "metadata": Self::metadata(),
        })
        .to_string()
        .into_bytes()
    }
}

pub(crate) fn service_name(service: u32) -> String {
    format!("service-{service}")
}

/// The number of an instance, from its id or a path that ends with it.
pub(crate) fn number(id: &str) -> Result<u32> {
    let (_, number) = id.rsplit_once('-').with_context(|| format!("{id:?} is not the id of an instance"))?;
    Ok(number.parse()?)
}
