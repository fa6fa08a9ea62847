//! The file that `netloft up` runs: read, parsed and checked as a whole before anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use netloft_types::{
    AttachSpec, Check, Checks, InterfaceName, MacAddr, Metadata, Mtu, NetworkName, NetworkSpec, Port,
    PublishSpec, SandboxName, Segment, ServiceName, ServiceSpec, Subnet, Tags, Weight,
};
use serde::{Deserialize, Deserializer};

/// What a file asks for.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// How long to run; until interrupted if absent.
    pub(crate) duration: Option<Duration>,
    pub(crate) networks: Vec<NetworkSpec>,
    /// In the order of the file, which is the order in which they are attached and started.
    pub(crate) sandboxes: Vec<Sandbox>,
    /// In order of time.
    pub(crate) kills: Vec<Kill>,
}

/// One sandbox and the process in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) attach: AttachSpec,
    pub(crate) service: Option<ServiceSpec>,
    pub(crate) command: Vec<String>,
    /// How long after its end the process is started again; never if absent.
    pub(crate) restart: Option<Duration>,
}

impl Sandbox {
    pub(crate) fn name(&self) -> &SandboxName {
        &self.attach.sandbox
    }
}

/// A process to be killed with SIGKILL, this long after the start.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) at: Duration,
    pub(crate) sandbox: SandboxName,
}

impl Scenario {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not a scenario", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: File = toml::from_str(text)?;
        let networks = file
            .network
            .into_iter()
            .map(|(name, network)| network.into_spec(name.clone()).with_context(|| format!("network {name}")))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let known: BTreeSet<_> = networks.iter().map(|network| &network.name).collect();

        let mut names = BTreeSet::new();
        for sandbox in &file.sandbox {
            let name = &sandbox.name;
            ensure!(names.insert(name.clone()), "sandbox {name}: the name is given to two sandboxes");
            ensure!(
                known.contains(&sandbox.network),
                "sandbox {name}: there is no network {}",
                sandbox.network
            );
            ensure!(!sandbox.command.is_empty(), "sandbox {name}: `command` must name a program");
        }
        if let Some(event) = file.event.iter().find(|event| !names.contains(&event.kill)) {
            bail!("event: there is no sandbox {} to kill", event.kill);
        }

        let mut kills: Vec<_> =
            file.event.into_iter().map(|event| Kill { at: event.at, sandbox: event.kill }).collect();
        kills.sort_by_key(|kill| kill.at);
        Ok(Self {
            duration: file.duration,
            networks,
            sandboxes: file.sandbox.into_iter().map(SandboxEntry::into_sandbox).collect(),
            kills,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, deserialize_with = "optional_duration")]
    duration: Option<Duration>,
    #[serde(default)]
    network: BTreeMap<NetworkName, NetworkEntry>,
    #[serde(default)]
    sandbox: Vec<SandboxEntry>,
    #[serde(default)]
    event: Vec<EventEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkEntry {
    #[serde(default)]
    subnets: Vec<Subnet>,
    #[serde(default)]
    gateways: Vec<IpAddr>,
    #[serde(default)]
    ipv6: bool,
    mtu: Option<Mtu>,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    host_access: bool,
}

impl NetworkEntry {
    fn into_spec(self, name: NetworkName) -> anyhow::Result<NetworkSpec> {
        Ok(NetworkSpec {
            segments: Segment::pair(self.subnets, self.gateways)?,
            ipv6: self.ipv6,
            mtu: self.mtu,
            internal: self.internal,
            host_access: self.host_access,
            ..NetworkSpec::new(name)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SandboxEntry {
    name: SandboxName,
    network: NetworkName,
    interface: Option<InterfaceName>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    mac: Option<MacAddr>,
    #[serde(default)]
    publish: Vec<PublishSpec>,
    service: Option<ServiceEntry>,
    command: Vec<String>,
    #[serde(default, deserialize_with = "optional_duration")]
    restart: Option<Duration>,
}

impl SandboxEntry {
    fn into_sandbox(self) -> Sandbox {
        let bare = AttachSpec::new(self.network, self.name);
        Sandbox {
            attach: AttachSpec {
                interface: self.interface,
                addresses: self.addresses,
                mac: self.mac,
                publish: self.publish,
                ..bare
            },
            service: self.service.map(ServiceEntry::into_spec),
            command: self.command,
            restart: self.restart,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceEntry {
    name: ServiceName,
    port: Port,
    #[serde(default)]
    weight: Weight,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, deserialize_with = "checks")]
    check: Option<Checks>,
}

/// One check, the word `none`, or a list of checks.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChecksEntry {
    One(String),
    Many(Checks),
}

fn checks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Checks>, D::Error> {
    let parse = |text: &str| text.parse::<Check>().map(Checks::from).map_err(serde::de::Error::custom);
    match ChecksEntry::deserialize(deserializer)? {
        ChecksEntry::One(text) if text == "none" => Ok(Some(Checks::default())),
        ChecksEntry::One(text) => parse(&text).map(Some),
        ChecksEntry::Many(checks) => Ok(Some(checks)),
    }
}

impl ServiceEntry {
    fn into_spec(self) -> ServiceSpec {
        let bare = ServiceSpec::new(self.name, self.port);
        ServiceSpec {
            weight: self.weight,
            tags: self.tags,
            metadata: self.metadata,
            checks: self.check.unwrap_or(bare.checks),
            ..bare
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventEntry {
    #[serde(deserialize_with = "duration")]
    at: Duration,
    kill: SandboxName,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("duration {text:?}: {error}; write it as in 2s or 500ms"))
    })
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_scenario() {
        let scenario = Scenario::parse(include_str!("../../../../examples/demo.toml")).unwrap();
        assert_eq!(scenario.networks.len(), 1);
        assert_eq!(scenario.sandboxes.len(), 5);
        assert_eq!(scenario.kills.len(), 1);
        let weights: Vec<_> = scenario
            .sandboxes
            .iter()
            .filter_map(|sandbox| sandbox.service.as_ref())
            .map(|service| service.weight.number())
            .collect();
        assert_eq!(weights, [3, 1, 1, 1]);
    }

    #[test]
    fn networks_are_closed_and_nothing_is_published_unless_it_says_so() {
        let scenario = Scenario::parse(
            r#"
            [network.closed]
            [network.open]
            ipv6 = true
            internal = true
            host_access = true
            [[sandbox]]
            name = "a"
            network = "open"
            publish = ["8080:80", "127.0.0.1::53/udp"]
            command = ["true"]
            "#,
        );
        let scenario = scenario.unwrap();
        assert_eq!(scenario.networks[0], NetworkSpec::new("closed".parse().unwrap()));
        let open = &scenario.networks[1];
        assert!(open.ipv6 && open.internal && open.host_access);
        let published: Vec<_> =
            scenario.sandboxes[0].attach.publish.iter().map(ToString::to_string).collect();
        assert_eq!(published, ["8080:80/tcp", "127.0.0.1::53/udp"]);
    }

    #[test]
    fn every_mistake_is_named() {
        let sandbox = "[[sandbox]]\nname = \"a\"\nnetwork = \"n\"\ncommand = [\"true\"]\n";
        let network = "[network.n]\n";
        for (text, complaint) in [
            (sandbox.to_owned(), "sandbox a: there is no network n"),
            (format!("{network}{sandbox}{sandbox}"), "sandbox a: the name is given to two sandboxes"),
            (
                format!("{network}{sandbox}[[event]]\nat = \"1s\"\nkill = \"b\"\n"),
                "there is no sandbox b to kill",
            ),
            (format!("{network}{sandbox}restart = \"soon\"\n"), "duration \"soon\""),
            (format!("{network}{sandbox}service = {{ name = \"a\", port = 65536 }}\n"), "port \"65536\""),
            (
                format!("{network}{sandbox}service = {{ name = \"a\", port = 1, weight = 0 }}\n"),
                "weight \"0\"",
            ),
            (format!("{network}{sandbox}colour = \"red\"\n"), "unknown field `colour`"),
            ("[network.n]\nsubnets = [\"10.0.0.1/24\"]\n".to_owned(), "did you mean 10.0.0.0/24?"),
            ("[network.n]\ngateways = [\"10.0.0.1\"]\n".to_owned(), "gateway \"10.0.0.1\""),
            ("[network.n]\ninternal = \"yes\"\n".to_owned(), "expected a boolean"),
            (format!("{network}{sandbox}publish = [\"80:\"]\n"), "published port \"80:\""),
        ] {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(complaint), "{error}");
        }
    }
}
