//! Compares what everybody was told with one history, revision by revision, and each with what was promised.
//!
//! The history is that of the witnesses: watches of everything, never cut off. They are compared with each other, and
//! with every answer and every other watch, so that a witness that is deceived is found out, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use netloft_registry::EXPIRY_DELAY_MAX;
use netloft_registry::testing::Truth;
use netloft_types::{Instance, InstanceId, Query, Revision, Update};

use crate::deployment::Promises;
use crate::mortals::Mortal;
use crate::spec::check_linearizable;
use crate::watcher::Told;
use crate::words::{Act, Answer, Content, Record, content_of, id_of, instance_of};

/// Everything that anybody did or was told.
pub(crate) struct Evidence {
    pub(crate) promises: Promises,
    pub(crate) records: Vec<Record>,
    pub(crate) witnesses: Vec<Told>,
    pub(crate) watchers: Vec<Told>,
    pub(crate) mortals: Vec<Mortal>,
    /// What there was in the end.
    pub(crate) last: Vec<Arc<Instance>>,
    /// When a server, or what servers share, was there again.
    pub(crate) healed: Vec<u64>,
    /// From when until when anything stood still or was away.
    pub(crate) away: Vec<(u64, u64)>,
    /// For how long the machine had no processor to give.
    pub(crate) starved: Duration,
}

/// How much was judged.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) operations: usize,
    pub(crate) lost: usize,
    pub(crate) exhausted: usize,
    pub(crate) revisions: usize,
    pub(crate) histories: usize,
    pub(crate) longest_history: usize,
    pub(crate) watches: usize,
    pub(crate) updates: usize,
    pub(crate) resumed: usize,
    /// Beyond that with which every watch begins.
    pub(crate) resets: usize,
    pub(crate) expired: usize,
    pub(crate) starved: Duration,
}

impl Judged {
    pub(crate) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.lost += other.lost;
        self.exhausted += other.exhausted;
        self.revisions += other.revisions;
        self.histories += other.histories;
        self.longest_history = self.longest_history.max(other.longest_history);
        self.watches += other.watches;
        self.updates += other.updates;
        self.resumed += other.resumed;
        self.resets += other.resets;
        self.expired += other.expired;
        self.starved += other.starved;
    }
}

/// What became of keys at a revision.
type Deltas = BTreeMap<InstanceId, Option<Arc<Instance>>>;

/// What happened, by revision.
struct History {
    changes: BTreeMap<u64, Deltas>,
    /// The same by key.
    contents: BTreeMap<String, BTreeMap<u64, Option<Content>>>,
    truth: Truth,
}

/// Judges everything; an error begins with the name of the promise that was broken.
pub(crate) fn judge(evidence: &Evidence) -> Result<Judged, String> {
    let history = History::of(evidence)?;
    let tellers = evidence.witnesses.iter().chain(&evidence.watchers);
    for told in tellers.clone() {
        let checked = history.truth.check(&told.recording);
        checked.map_err(|broken| format!("watch of {:?}: {broken:?}: {broken}", told.recording.query))?;
        converged(evidence, told)?;
    }
    for record in &evidence.records {
        history.agrees_with(record)?;
    }
    in_real_time(evidence)?;
    for mortal in &evidence.mortals {
        died_in_time(evidence, mortal)?;
    }
    let (histories, longest_history) =
        check_linearizable(&evidence.records).map_err(|why| format!("LINEARIZABLE: {why}"))?;
    let mut judged = Judged { histories, longest_history, ..Judged::default() };
    let done: Vec<_> = evidence.records.iter().filter(|it| !matches!(it.act, Act::Expire { .. })).collect();
    judged.operations = done.len();
    judged.lost = done.iter().filter(|it| it.answer == Answer::Lost).count();
    judged.exhausted = done.iter().filter(|it| it.answer == Answer::Exhausted).count();
    judged.revisions = history.changes.len();
    judged.expired = evidence.mortals.len();
    judged.starved = evidence.starved;
    for told in tellers {
        judged.watches += 1;
        judged.updates += told.recording.batches.iter().map(Vec::len).sum::<usize>();
        judged.resumed += told.resumed;
        let updates = told.recording.batches.iter().flatten();
        judged.resets += updates.filter(|update| matches!(update, Update::Reset { .. })).count() - 1;
        if evidence.promises.remembers_everything && told.resumed_by_reset > 0 {
            let (resets, resumed) = (told.resumed_by_reset, told.resumed);
            return Err(format!("RESUMABLE: {resets} of {resumed} watches began anew"));
        }
    }
    Ok(judged)
}

impl History {
    fn of(evidence: &Evidence) -> Result<Self, String> {
        let mut changes: BTreeMap<u64, Deltas> = BTreeMap::new();
        for update in evidence.witnesses.iter().flat_map(|told| told.recording.batches.iter().flatten()) {
            let (id, after) = match update {
                Update::Put { instance, .. } => (instance.id.clone(), Some(Arc::clone(instance))),
                Update::Delete { id, .. } => (id.clone(), None),
                Update::Reset { .. } | Update::Progress { .. } => continue,
            };
            let deltas = changes.entry(update.at().number()).or_default();
            let before = deltas.insert(id.clone(), after.clone());
            if before.as_ref().is_some_and(|before| *before != after) {
                let at = update.at();
                return Err(format!("DURABLE: revision {at} of {id} was {before:?}, and then {after:?}"));
            }
        }
        let (mut truth, mut contents) = (Truth::default(), BTreeMap::<_, BTreeMap<_, _>>::new());
        for (at, deltas) in &changes {
            for (id, after) in deltas {
                let content =
                    after.as_ref().map(|one| content_of(one).ok_or_else(|| invented(one))).transpose()?;
                contents.entry(id.to_string()).or_default().insert(*at, content);
                truth.note(Revision::new(*at), id.clone(), after.clone());
            }
        }
        let history = Self { changes, contents, truth };
        if evidence.promises.has_dense_revisions {
            history.is_whole()?;
        }
        Ok(history)
    }

    fn is_whole(&self) -> Result<(), String> {
        let mut last = None;
        for at in self.changes.keys() {
            if last.is_some_and(|last| last + 1 != *at) {
                return Err(format!("RELIABLE: no witness was told of what is between {last:?} and {at}"));
            }
            last = Some(*at);
        }
        Ok(())
    }

    fn at(&self, key: &str, revision: u64) -> Option<Content> {
        let (_, content) = self.contents.get(key)?.range(..=revision).next_back()?;
        *content
    }

    /// Whether an answer is what the history says of its revision.
    fn agrees_with(&self, record: &Record) -> Result<(), String> {
        let says_otherwise = |really: &dyn std::fmt::Debug| {
            Err(format!("TRUE ANSWERS: the history says {really:?} of {record:?}"))
        };
        match (&record.act, &record.answer) {
            (Act::Get { key }, Answer::Found(at, told)) => match self.at(key, *at) {
                Some(really) if really == *told => Ok(()),
                really => says_otherwise(&really),
            },
            (Act::List { query }, Answer::Listed(at, told)) => {
                let really = self.list(query, *at);
                if really == *told { Ok(()) } else { says_otherwise(&really) }
            }
            (act, Answer::Done(at)) => {
                let (Some(key), really) = (act.key(), act.key().and_then(|key| self.at(key, *at))) else {
                    return Ok(());
                };
                let is_so = match act {
                    Act::Register { value, .. } => {
                        really.is_some_and(|it| (it.registered, it.said) == (*value, *value))
                    }
                    Act::Update { value, .. } => really.is_some_and(|it| it.said == *value),
                    Act::Maintain { value, .. } => really.is_some_and(|it| it.kept_out == *value),
                    Act::Deregister { .. } => really.is_none(),
                    _ => true,
                };
                // Nothing changes when an operator says again what holds already.
                let may_be_idle = matches!(act, Act::Maintain { .. });
                let is_told = self.changes.get(at).is_some_and(|deltas| deltas.contains_key(&id_of(key)));
                if is_so && (is_told || may_be_idle) { Ok(()) } else { says_otherwise(&really) }
            }
            _ => Ok(()),
        }
    }

    fn list(&self, query: &Query, revision: u64) -> BTreeMap<String, Content> {
        let there = self.contents.keys().filter_map(|key| Some((key.clone(), self.at(key, revision)?)));
        there.filter(|(key, content)| query.matches(&instance_of(key, *content))).collect()
    }
}

fn invented(instance: &Instance) -> String {
    format!("FILTER EXACT: nobody ever said {instance:?}")
}

/// Whether somebody who watched knows in the end what there is.
fn converged(evidence: &Evidence, told: &Told) -> Result<(), String> {
    let query = &told.recording.query;
    let selected: Vec<_> = evidence.last.iter().filter(|one| query.matches(one)).cloned().collect();
    if told.known == selected {
        return Ok(());
    }
    let names = |all: &[Arc<Instance>]| all.iter().map(|one| one.id.to_string()).collect::<BTreeSet<_>>();
    let mut text = format!("CONVERGENCE: a watch of {query:?} does not add up to a list");
    let _ = write!(text, ": {:?} instead of {:?}", names(&told.known), names(&selected));
    Err(text)
}

/// Whether revisions order what was done as time did: nothing that began later is at an earlier one, be it than an
/// answer or than what a watch had told. What was answered before a server was killed is therefore there after it.
fn in_real_time(evidence: &Evidence) -> Result<(), String> {
    let mut moments: Vec<(u64, Moment<'_>)> = Vec::new();
    let is_ordered = |record: &Record| evidence.promises.has_linearizable_reads || !record.act.is_read();
    for record in evidence.records.iter().filter(|record| is_ordered(record)) {
        if let Some(revision) = record.answer.revision() {
            moments.push((record.called, Moment::Called(record, revision)));
            moments.push((record.answered, Moment::Told(revision)));
        }
    }
    for told in evidence.witnesses.iter().chain(&evidence.watchers) {
        for (time, batch) in told.times.iter().zip(&told.recording.batches) {
            moments.extend(batch.last().map(|last| (*time, Moment::Told(last.at().number()))));
        }
    }
    // What is called in the moment in which something is told may be before it.
    moments.sort_by_key(|(time, moment)| (*time, matches!(moment, Moment::Told(_))));
    let mut latest = 0;
    for (_, moment) in moments {
        match moment {
            Moment::Told(revision) => latest = latest.max(revision),
            Moment::Called(record, revision) if revision < latest => {
                return Err(format!("REAL TIME, DURABLE: revision {latest} was told before {record:?}"));
            }
            Moment::Called(..) => {}
        }
    }
    Ok(())
}

enum Moment<'a> {
    /// Something began that will be answered with this revision.
    Called(&'a Record, u64),
    /// Somebody was told of this revision.
    Told(u64),
}

/// How late the news may be of what happened, on a machine with much else to do.
const LATE: Duration = Duration::from_secs(3);

/// How long a machine may have nothing to give, and clients that hurry still be in time.
const STARVED_MAX: Duration = Duration::from_millis(200);

/// Whether a session that was left alone ended neither early nor late.
fn died_in_time(evidence: &Evidence, mortal: &Mortal) -> Result<(), String> {
    let Some(died) = time_of_death(&evidence.witnesses[0], &mortal.key) else {
        return Err(format!("EXPIRY: {mortal:?} never ended"));
    };
    let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap();
    let earliest = mortal.renewed + ns(mortal.ttl);
    if died < earliest {
        let early = Duration::from_nanos(earliest - died);
        return Err(format!("EXPIRY: {mortal:?} ended {early:?} early"));
    }
    // Whoever tries to renew all the time does so in time, through every fault that is healed.
    if mortal.was_missed && evidence.starved < STARVED_MAX {
        return Err(format!("EXPIRY: {mortal:?} ended although it was to be renewed"));
    }
    // A restart counts as a renewal, of what there is then.
    let healed = evidence.healed.iter().copied().filter(|healed| *healed < died);
    let last_heard = healed.fold(mortal.last_tried, u64::max);
    let promises = &evidence.promises;
    let grace = if evidence.healed.is_empty() { Duration::ZERO } else { promises.grace };
    let still = away_between(evidence, last_heard, died) + 4 * evidence.starved;
    let latest = last_heard + ns(mortal.ttl + grace + promises.takeover + EXPIRY_DELAY_MAX + still + LATE);
    if died > latest {
        let late = Duration::from_nanos(died - latest);
        return Err(format!("EXPIRY: {mortal:?} ended {late:?} late"));
    }
    Ok(())
}

/// For how long nobody counted. The registry does not count a gap of more than a second, nor the second after it.
fn away_between(evidence: &Evidence, from: u64, until: u64) -> Duration {
    let overlaps = evidence.away.iter().filter(|(began, ended)| *ended > from && *began < until);
    let spans = overlaps.map(|(began, ended)| Duration::from_nanos(ended.min(&until) - began.max(&from)));
    spans.map(|span| span + Duration::from_secs(1)).sum()
}

fn time_of_death(witness: &Told, key: &str) -> Option<u64> {
    let mut batches = witness.times.iter().zip(&witness.recording.batches);
    let is_death = |update: &Update| matches!(update, Update::Delete { id, .. } if id.as_str() == key);
    batches.find(|(_, batch)| batch.iter().any(is_death)).map(|(time, _)| *time)
}
