//! What is done to the agent while it is killed, and how to tell what came of it.

use netloft_client::Error;
use netloft_netns::Netns;
use netloft_tests::running::until;
use netloft_types::{AttachSpec, Attachment, Bandwidth, Lifetime, NetworkSpec, ReadyCheck, ServiceSpec};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::doom::Thread;
use crate::world::{Listing, World, ip, segments};

/// The sandbox whose bandwidth is limited.
pub(crate) const LIMITED: &str = "limited";

/// What is made and taken away.
#[derive(Debug, Clone)]
pub(crate) enum Thing {
    Network(NetworkSpec),
    Sandbox(Box<AttachSpec>, Option<ServiceSpec>),
}

impl Thing {
    /// A network that reaches the world, or none but itself.
    pub(crate) fn network(name: &str, internal: bool) -> Self {
        let mut spec = NetworkSpec::new(name.parse().unwrap());
        spec.segments = segments(["10.90.0.0/24", "fd90::/64"]);
        spec.internal = internal;
        Self::Network(spec)
    }

    pub(crate) fn sandbox(name: &str) -> Self {
        Self::Sandbox(Box::new(AttachSpec::new("blue".parse().unwrap(), name.parse().unwrap())), None)
    }

    /// In a namespace that somebody else made.
    pub(crate) fn guest(name: &str, home: &Netns) -> Self {
        let mut spec = AttachSpec::new("blue".parse().unwrap(), name.parse().unwrap());
        spec.netns = Some(home.path());
        Self::Sandbox(Box::new(spec), None)
    }

    /// With a port and a range published, and its bandwidth limited.
    pub(crate) fn published() -> Self {
        let mut spec = AttachSpec::new("blue".parse().unwrap(), LIMITED.parse().unwrap());
        spec.publish = ["9100:7000", "9200-9201:9200-9201/udp"].map(|port| port.parse().unwrap()).to_vec();
        let rate = Some("100M".parse().unwrap());
        spec.bandwidth = Bandwidth { to_sandbox: rate, from_sandbox: rate };
        Self::Sandbox(Box::new(spec), None)
    }

    pub(crate) fn serving(name: &str) -> Self {
        let mut service = ServiceSpec::new("web".parse().unwrap(), "8080".parse().unwrap());
        service.ready_check = ReadyCheck::None;
        let spec = AttachSpec::new("blue".parse().unwrap(), name.parse().unwrap());
        Self::Sandbox(Box::new(spec), Some(service))
    }

    fn name(&self) -> &str {
        match self {
            Self::Network(spec) => spec.name.as_str(),
            Self::Sandbox(spec, _) => spec.sandbox.as_str(),
        }
    }

    fn is_in(&self, listing: &Listing) -> bool {
        match self {
            Self::Network(_) => listing.networks.contains_key(self.name()),
            Self::Sandbox(..) => listing.attachments.contains_key(self.name()),
        }
    }

    /// A listing without it.
    fn without(&self, listing: &Listing) -> Listing {
        let mut rest = listing.clone();
        match self {
            Self::Network(_) => drop(rest.networks.remove(self.name())),
            Self::Sandbox(..) => drop(rest.attachments.remove(self.name())),
        }
        rest
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Make,
    Take,
    /// Starts a process in a sandbox.
    Start,
    /// Takes away what somebody left who looks like us.
    Sweep,
    /// Asks the agent to end.
    End,
}

/// What is done to an agent.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) verb: Verb,
    pub(crate) thing: Thing,
}

impl Operation {
    /// The threads of the agent that have a part in it wherever it is done.
    pub(crate) fn threads(&self) -> &'static [Thread] {
        match (self.verb, &self.thing) {
            (Verb::Make, Thing::Sandbox(..)) => &[Thread::Network, Thread::Enterer],
            (Verb::Take, Thing::Sandbox(..)) | (Verb::Sweep, _) => &[Thread::Network, Thread::Reaper],
            _ => &[Thread::Network],
        }
    }

    /// Has the world be as it is before the operation, wherever an earlier one stopped.
    pub(crate) fn prepare(&self, world: &mut World) {
        let listing = world.listing();
        let is_there = self.thing.is_in(&listing);
        match self.verb {
            Verb::Make if is_there => {
                take(world, &self.thing, listing.attachments.get(self.thing.name())).unwrap();
            }
            Verb::Take | Verb::Start if !is_there => make(world, &self.thing).unwrap(),
            _ => {}
        }
        if self.verb == Verb::Start {
            world.end_process();
            let name = self.thing.name();
            until("the agent knows that it ended", || {
                world.listing().attachments.get(name).is_some_and(|it| it.pid.is_none())
            });
        }
    }

    /// Does what comes right before the operation: an agent that starts would see to it, and one that is about to be
    /// killed must not be asked anything else. What of the listing it concerns.
    pub(crate) fn provoke(&self, world: &World, listing: &Listing) -> Option<Attachment> {
        if self.verb == Verb::Sweep {
            litter(world);
        }
        listing.attachments.get(self.thing.name()).cloned()
    }

    /// Does it.
    pub(crate) fn act(&self, world: &mut World, concerns: Option<&Attachment>) -> Result<(), Error> {
        match (self.verb, concerns) {
            (Verb::Make, _) => make(world, &self.thing),
            (Verb::Take, concerns) => take(world, &self.thing, concerns),
            (Verb::Start, concerns) => world.start_process(concerns.unwrap()),
            (Verb::Sweep, _) => world.ask(async |agent| agent.collect_garbage(false).await.map(drop)),
            (Verb::End, _) => {
                netloft_tests::running::signal(world.pid(), Signal::SIGTERM);
                Ok(())
            }
        }
    }

    /// What of a listing is neither what there was before nor what there should be now. `answered` tells whether the
    /// operation was acknowledged; if not, it may have been done wholly or not at all.
    pub(crate) fn judge(
        &self,
        world: &World,
        before: &Listing,
        now: &Listing,
        answered: bool,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut claim = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{what}: {now:#?}\nbefore: {before:#?}"));
            }
        };
        let is_there = self.thing.is_in(now);
        match self.verb {
            Verb::Make => {
                claim(self.thing.without(now) == *before, "something else changed");
                claim(is_there || !answered, "it was acknowledged and is not there");
            }
            Verb::Take => {
                let without = self.thing.without(before);
                claim(*now == *before || *now == without, "something else changed");
                claim(!is_there || !answered, "it was acknowledged and is still there");
            }
            Verb::Start => {
                let mut started = before.clone();
                let entry = started.attachments.get_mut(self.thing.name()).unwrap();
                entry.pid = world.process();
                claim(*now == started || !answered, "it was acknowledged and is not known");
                claim(*now == started || *now == *before, "something else changed");
            }
            Verb::Sweep | Verb::End => claim(now == before, "something changed"),
        }
        wrong
    }
}

fn make(world: &World, thing: &Thing) -> Result<(), Error> {
    world.ask(async |agent| match thing {
        Thing::Network(spec) => agent.create_network(spec).await.map(drop),
        Thing::Sandbox(spec, service) => {
            agent.attach(spec, service.as_ref(), Lifetime::UntilDetached).await.map(drop)
        }
    })
}

fn take(world: &World, thing: &Thing, concerns: Option<&Attachment>) -> Result<(), Error> {
    match thing {
        Thing::Network(spec) => world.ask(async |agent| agent.remove_network(&spec.name).await),
        Thing::Sandbox(..) => {
            let id = concerns.unwrap().endpoint.id;
            world.ask(async |agent| agent.detach(id).await)
        }
    }
}

/// Leaves a bridge, a link, a name and a rule that say they are ours.
fn litter(world: &World) {
    ip(&["link", "add", "nl-stray", "type", "bridge"]);
    ip(&["link", "add", "nl0123456789ab", "type", "veth", "peer", "name", "stray0"]);
    for name in ["nl-stray", "nl0123456789ab"] {
        ip(&["link", "set", name, "alias", "netloft:stray"]);
    }
    ip(&["rule", "add", "iif", "nl-stray", "priority", "110", "protocol", "110", "prohibit"]);
    let path = world.netns_dir().join("stray");
    std::fs::write(&path, "").unwrap();
    let (from, none) = (world.lan.path(), None::<&str>);
    mount(Some(&from), &path, none, MsFlags::MS_BIND, none).unwrap();
}
