//! To who owns the key in a table.

use std::sync::Arc;

use netloft_types::Instance;

use crate::context::mix;
use crate::number::split;
use crate::options::Maglev;
use crate::ring_hash::hash_for;
use crate::{Caller, Context, Key, Picker, Roster};

/// The picker of [`Builtin::Maglev`](crate::Builtin::Maglev).
#[derive(Debug)]
pub(crate) struct Table {
    owners: Box<[u32]>,
    roster: Roster,
}

impl Table {
    pub(crate) fn new(options: Maglev, roster: Roster) -> Self {
        Self { owners: fill(&roster, options.len().into()), roster }
    }

    fn at(&self, hash: u64) -> Option<usize> {
        // Keys may be hashed elsewhere, with good low bits only.
        let (index, _) = split(mix(hash), self.owners.len());
        self.owners.get(index).map(|owner| *owner as usize)
    }
}

impl Picker for Table {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize> {
        self.at(hash_for(caller, context))
    }

    /// Looks for the key elsewhere in the table, in the same places each time.
    fn pick_untried(&self, caller: &mut Caller, context: &Context, tried: &[usize]) -> Option<usize> {
        let hash = hash_for(caller, context);
        let mut places = (0..LOOKS).map(|look| hash.wrapping_add(look));
        let found = places.find_map(|hash| self.at(hash).filter(|index| !tried.contains(index)));
        found.or_else(|| {
            let owners = self.owners.iter().map(|owner| *owner as usize);
            let mut rest = owners.filter(|index| !tried.contains(index));
            rest.next()
        })
    }
}

/// Places looked at before the whole table is. With half of the weight dead, 99.6 % of fallbacks end within
/// these.
const LOOKS: u64 = 8;

/// One who fills the table: the places it wants, in its own order.
struct Filler {
    owner: u32,
    weight: u64,
    at: u64,
    skip: u64,
    taken: u64,
    /// Who has a turn after it in the same round.
    next: Option<usize>,
}

impl Filler {
    /// The round of its next turn. Those of the greatest weight take a place in each round, others in
    /// proportion, as in Envoy.
    fn round(&self, greatest: u64) -> usize {
        let round = ((self.taken + 1) * greatest).div_ceil(self.weight);
        usize::try_from(round).unwrap_or(usize::MAX)
    }

    /// Takes the next free one of the places it wants.
    fn take(&mut self, owners: &mut [u32]) {
        let len = owners.len() as u64;
        loop {
            let at = usize::try_from(self.at).expect("within the table");
            self.at = (self.at + self.skip) % len;
            if owners[at] == FREE {
                owners[at] = self.owner;
                self.taken += 1;
                return;
            }
        }
    }
}

/// Fills the table (Eisenbud et al., Maglev, NSDI 2016, 3.4): by turns, each takes a place.
///
/// Everybody stands in the list of the round of its next turn, so nobody is asked in vain, however light.
fn fill(roster: &Roster, len: u64) -> Box<[u32]> {
    let greatest = roster.weights().iter().copied().max().unwrap_or(0).into();
    let mut fillers = fillers(roster, len);
    if fillers.is_empty() {
        return Box::default();
    }
    let mut left = usize::try_from(len).expect("a table fits into memory");
    let mut owners = vec![FREE; left];
    // In each round the heaviest take a place, so there are no more rounds than places.
    let mut rounds = vec![None; left + 1];
    for (index, filler) in fillers.iter_mut().enumerate() {
        if let Some(first) = rounds.get_mut(filler.round(greatest)) {
            filler.next = first.replace(index);
        }
    }
    for round in 1..rounds.len() {
        let mut turn = rounds[round];
        while let Some(index) = turn
            && left > 0
        {
            let filler = &mut fillers[index];
            turn = filler.next;
            filler.take(&mut owners);
            left -= 1;
            if let Some(first) = rounds.get_mut(filler.round(greatest)) {
                filler.next = first.replace(index);
            }
        }
    }
    owners.into()
}

/// All who have a weight.
fn fillers(roster: &Roster, len: u64) -> Vec<Filler> {
    let each = roster.snapshot().instances().iter().zip(roster.weights()).zip(0..);
    let filler = |((instance, weight), owner): ((&Arc<Instance>, &u32), u32)| {
        let hash = Key::of(instance.id.as_str()).hash();
        let (at, skip) = (mix(hash) % len, mix(!hash) % (len - 1) + 1);
        Filler { owner, weight: (*weight).into(), at, skip, taken: 0, next: None }
    };
    each.map(filler).filter(|filler| filler.weight > 0).collect()
}

/// No instance: they have smaller numbers.
const FREE: u32 = u32::MAX;
