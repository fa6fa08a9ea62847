//! What is wrong, why, and what to do about it.

use std::fmt;

use netloft_types::{Family, Network, Subnet};

use crate::kernel::Stray;
use crate::plan::Step;
use crate::record::EndpointRecord;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// How that can have come about.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Cause: {}. Remedy: {}.", self.problem, self.cause, self.remedy)
    }
}

impl Finding {
    fn new(problem: impl Into<String>, cause: &str, remedy: &str) -> Self {
        Self { problem: problem.into(), cause: cause.to_owned(), remedy: remedy.to_owned() }
    }

    pub(crate) fn missing(step: &Step) -> Self {
        Self::new(
            format!("What was there is gone or was changed: {step} was done once"),
            "somebody deleted or changed it",
            "detach the endpoints concerned and attach them again; a network is made anew when the agent is restarted",
        )
    }

    pub(crate) fn changed(difference: &str) -> Self {
        Self::new(
            format!("What was made was changed: {difference}"),
            "somebody took it away, or whatever runs in the sandbox did",
            "put it back by hand; or detach the endpoint and attach it again, or remove the network and create it again",
        )
    }

    pub(crate) fn stray(stray: Stray) -> Self {
        Self::new(
            format!("Nobody knows the {stray}, which says it is ours"),
            "it was left by an agent whose journal is lost, or made by hand",
            "netloft gc takes it away",
        )
    }

    pub(crate) fn filter(difference: String) -> Self {
        Self::new(
            format!("The packet filter differs: {difference}"),
            "somebody changed the tables called netloft",
            "the agent puts it right by itself within a second; if it does not, restart the agent",
        )
    }

    pub(crate) fn overlap(network: &Network, subnet: Subnet, used: Subnet) -> Self {
        Self::new(
            format!(
                "Subnet {subnet} of network {} overlaps {used}, which the host routes elsewhere",
                network.name
            ),
            "a route or an address was added after the network, as by a virtual private network",
            "remove the network and create it with another subnet, or take the route away",
        )
    }

    pub(crate) fn not_forwarding(family: Family) -> Self {
        Self::new(
            format!("The host does not forward {family}"),
            "somebody switched forwarding off",
            "switch it on (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding), or restart the agent",
        )
    }

    pub(crate) fn debris(claimed: Option<&EndpointRecord>) -> Self {
        let of = claimed.map(|record| format!(" of endpoint {}", record.id)).unwrap_or_default();
        Self::new(
            format!("Something{of} could not be taken away"),
            "the kernel refused, as the log says",
            "the agent tries again every ten seconds",
        )
    }
}
