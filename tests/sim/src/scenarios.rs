//! The scenarios that the adaptive strategy was made by.

use crate::fleet::{Scenario, Server, Trouble, Work, plain};

const ONE: Server = plain(1.0);
const FOUR: Server = plain(4.0);

/// What an antagonist leaves on average.
const ANTAGONISED: f64 = 2.0 / 3.0;

const TWO_KINDS: Work = Work::Two(0.005, 0.1);

/// Scenarios that have something in common.
#[derive(Debug)]
pub struct Group {
    /// What that is.
    pub name: &'static str,
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
}

/// All of them: servers of one core, where a call that waits waits for whole calls, and of four, where it rarely
/// waits; then servers that come and go, and fewer and more clients.
pub fn all() -> [Group; 4] {
    [
        Group { name: "one core", scenarios: one_core() },
        Group { name: "four cores", scenarios: four_cores() },
        Group { name: "come and go", scenarios: losses() },
        Group { name: "clients", scenarios: clients() },
    ]
}

fn one_core() -> Vec<Scenario> {
    let first = |server: Server| alike_but(20, server);
    let with = |trouble: Trouble| vec![Server { trouble, ..ONE }; 20];
    let faster = |index: u32| Server { speed: f64::from(index % 2 + 1), ..ONE };
    let sized = |index: u32| Server { cores: f64::from(1 << (index % 3)), weight: 1 << (index % 3), ..ONE };
    vec![
        Scenario::new("50 alike, u 0.8", vec![ONE; 50], 0.8),
        Scenario::new("20 alike, u 0.3", vec![ONE; 20], 0.3),
        Scenario::new("3 alike, u 0.7", vec![ONE; 3], 0.7),
        Scenario::new("speeds 1 and 2, u 0.8", (0..20).map(faster).collect(), 0.8),
        Scenario::new("cores and weights 1, 2, 4, u 0.8", (0..21).map(sized).collect(), 0.8),
        Scenario::new("antagonists, u 0.75", with(Trouble::Antagonist), 0.75 * ANTAGONISED),
        Scenario::new("antagonists, u 0.9", with(Trouble::Antagonist), 0.9 * ANTAGONISED),
        Scenario::new("one of 20 at a tenth, u 0.6", first(Server { speed: 0.1, ..ONE }), 0.6),
        Scenario::new("one of 20 fails, u 0.6", first(Server { failing: 1.0, ..ONE }), 0.6),
        Scenario::new("one of 20 fails 30 %, u 0.6", first(Server { failing: 0.3, ..ONE }), 0.6),
        Scenario::with_work("5 and 100 ms, u 0.7", vec![ONE; 20], 0.7, TWO_KINDS),
        Scenario::new("pauses, u 0.6", with(Trouble::Pauses), 0.6),
    ]
}

fn four_cores() -> Vec<Scenario> {
    let with = |trouble: Trouble| vec![Server { trouble, ..FOUR }; 20];
    let mut fails = vec![FOUR; 20];
    fails[0].failing = 1.0;
    vec![
        Scenario::new("20 alike of four cores, u 0.8", vec![FOUR; 20], 0.8),
        Scenario::new("antagonists, four cores, u 0.75", with(Trouble::Antagonist), 0.75 * ANTAGONISED),
        Scenario::new("one of 20 fails, four cores, u 0.01", fails, 0.01),
        Scenario::with_work("5 and 100 ms, four cores, u 0.7", vec![FOUR; 20], 0.7, TWO_KINDS),
        Scenario::new("pauses, four cores, u 0.6", with(Trouble::Pauses), 0.6),
    ]
}

/// Servers that come and go.
fn losses() -> Vec<Scenario> {
    let joins = Server { from: 5.0, trouble: Trouble::Cold, ..ONE };
    let silent = Server { trouble: Trouble::Silent { at: 15.0 }, ..ONE };
    let half_a_zone = |trouble: Trouble| {
        let mut servers = vec![ONE; 20];
        servers[..5].fill(Server { trouble, ..ONE });
        servers
    };
    let lost = Trouble::Lost { at: 12.0, until: 26.0 };
    let critical = Trouble::Critical { at: 12.0, until: 26.0 };
    vec![
        Scenario::new("a cold one joins 20, u 0.8", alike_but(21, joins), 0.8),
        Scenario::new("one of 20 dies silently, u 0.6", alike_but(20, silent), 0.6),
        Scenario::new("half of one of two zones is lost, u 0.6", half_a_zone(lost), 0.6),
        Scenario::new("half of one of two zones is critical, u 0.6", half_a_zone(critical), 0.6),
    ]
}

/// Fewer and more who share what there is to know.
fn clients() -> Vec<Scenario> {
    let slow = || alike_but(20, Server { speed: 0.1, ..ONE });
    let fails = || alike_but(20, Server { failing: 1.0, ..ONE });
    vec![
        Scenario::new("20 alike, one client, u 0.8", vec![ONE; 20], 0.8).with_clients(1),
        Scenario::new("20 alike, 100 clients, u 0.8", vec![ONE; 20], 0.8).with_clients(100),
        Scenario::new("20 alike, 1,000 clients, u 0.8", vec![ONE; 20], 0.8).with_clients(1_000),
        Scenario::new("one of 20 at a tenth, 100 clients, u 0.6", slow(), 0.6).with_clients(100),
        Scenario::new("one of 20 at a tenth, 1,000 clients, u 0.6", slow(), 0.6).with_clients(1_000),
        Scenario::new("one of 20 fails, 100 clients, u 0.6", fails(), 0.6).with_clients(100),
        Scenario::new("one of 20 fails, 1,000 clients, u 0.6", fails(), 0.6).with_clients(1_000),
    ]
}

fn alike_but(count: usize, first: Server) -> Vec<Server> {
    let mut servers = vec![ONE; count];
    servers[0] = first;
    servers
}
