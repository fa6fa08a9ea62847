//! Which probes are under way, and which wait for one of them to end.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use super::agenda::Item;

/// Bounds the probes under way: all of them, and those of each address.
#[derive(Debug)]
pub(super) struct Lanes {
    all_max: usize,
    lane_max: usize,
    tickets: u64,
    flights: BTreeMap<u64, Flight>,
    by_address: BTreeMap<IpAddr, Lane>,
    /// Lanes with something to begin and room for it, in turn; each at most once.
    turns: VecDeque<IpAddr>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Lane {
    under_way: usize,
    waiting: VecDeque<Item>,
    has_turn: bool,
}

/// A probe under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) item: Item,
    pub(super) began: Duration,
    pub(super) began_awake: Duration,
    pub(super) limit: Duration,
    address: IpAddr,
}

impl Lanes {
    pub(super) fn new(all_max: usize, lane_max: usize) -> Self {
        Self {
            all_max,
            lane_max,
            tickets: 0,
            flights: BTreeMap::new(),
            by_address: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Has a probe wait for its turn.
    pub(super) fn queue(&mut self, address: IpAddr, item: Item) {
        self.by_address.entry(address).or_default().waiting.push_back(item);
        self.waiting += 1;
        self.give_turn(address);
    }

    /// A probe whose turn it is. It must take off, or it is gone.
    pub(super) fn next(&mut self) -> Option<Item> {
        if self.flights.len() >= self.all_max {
            return None;
        }
        while let Some(address) = self.turns.pop_front() {
            let Some(lane) = self.by_address.get_mut(&address) else { continue };
            lane.has_turn = false;
            // Its last turn may have filled it; then it gets the next when one of its probes has landed.
            if lane.under_way >= self.lane_max {
                continue;
            }
            if let Some(item) = lane.waiting.pop_front() {
                self.waiting -= 1;
                self.give_turn(address);
                self.drop_if_idle(address);
                return Some(item);
            }
        }
        None
    }

    /// Counts a probe as under way, and names it.
    pub(super) fn take_off(
        &mut self,
        address: IpAddr,
        began: Duration,
        began_awake: Duration,
        limit: Duration,
        item: Item,
    ) -> u64 {
        self.tickets += 1;
        self.by_address.entry(address).or_default().under_way += 1;
        self.flights.insert(self.tickets, Flight { item, began, began_awake, limit, address });
        self.tickets
    }

    pub(super) fn land(&mut self, ticket: u64) -> Option<Flight> {
        let flight = self.flights.remove(&ticket)?;
        if let Some(lane) = self.by_address.get_mut(&flight.address) {
            lane.under_way -= 1;
        }
        self.give_turn(flight.address);
        self.drop_if_idle(flight.address);
        Some(flight)
    }

    fn give_turn(&mut self, address: IpAddr) {
        let Some(lane) = self.by_address.get_mut(&address) else { return };
        if !lane.has_turn && !lane.waiting.is_empty() && lane.under_way < self.lane_max {
            lane.has_turn = true;
            self.turns.push_back(address);
        }
    }

    fn drop_if_idle(&mut self, address: IpAddr) {
        let is_idle = |lane: &Lane| lane.under_way == 0 && lane.waiting.is_empty();
        if self.by_address.get(&address).is_some_and(is_idle) {
            self.by_address.remove(&address);
        }
    }
}
