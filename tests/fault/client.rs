//! A client that does one thing after another, at random, and writes down what it did and what it was told.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netloft_types::{HealthFilter, LifecycleFilter, Query};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

use crate::speaker::{Speaker, list_everything, renew};
use crate::words::{Act, Answer, Content, Record, SERVICES, now, value_of};

/// Who a client is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) number: u64,
    /// The servers, in the order in which they are tried.
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) from: IpAddr,
    pub(crate) seed: u64,
    /// How long its sessions live; one that outlasts the test is never renewed.
    pub(crate) ttl: Duration,
    pub(crate) zeal: Zeal,
    /// Whether it writes everything down on its standard output, too, for whoever kills it.
    pub(crate) is_printing: bool,
}

/// What a client is after, and how hastily.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Zeal {
    /// Keys that everybody wants.
    pub(crate) shared_keys: u64,
    /// Keys that nobody else wants.
    pub(crate) own_keys: u64,
    /// Of a hundred things done, how many are for an operator to do.
    pub(crate) maintenance_percent: u32,
    /// The longest pause between two things.
    pub(crate) pause_ms_max: u64,
}

/// Of how many things that it does, one is at another server than the one before.
const STRAYS: u32 = 4;

/// A session that outlasts every test.
pub(crate) const LONG: Duration = Duration::from_mins(10);

pub(crate) struct Client {
    identity: Identity,
    speaker: Speaker,
    dice: StdRng,
    session: String,
    written: u64,
    records: Vec<Record>,
}

impl Client {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            speaker: Speaker::new(identity.servers.clone(), identity.from),
            dice: StdRng::seed_from_u64(identity.seed),
            session: String::new(),
            written: 0,
            records: Vec::new(),
            identity,
        }
    }

    /// Goes on until it is told to stop.
    pub(crate) async fn run(mut self, stop: watch::Receiver<bool>) -> Vec<Record> {
        let work = async {
            self.open().await;
            while !*stop.borrow() {
                self.step().await;
                let pause = self.dice.random_range(0..=self.identity.zeal.pause_ms_max);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        };
        work.await;
        self.records
    }

    async fn open(&mut self) {
        let ttl = self.identity.ttl;
        let sent = now();
        self.session = self.speaker.open(ttl).await;
        if ttl < LONG {
            // It may end whenever nobody can say that it was renewed.
            let expiry = Act::Expire { session: self.session.clone() };
            let index = self.begin(expiry, sent + u64::try_from(ttl.as_nanos()).unwrap());
            self.end(index, Answer::Lost);
        }
    }

    async fn step(&mut self) {
        let act = self.choose();
        if self.identity.ttl < LONG && self.dice.random_range(0..20) == 0 {
            let rpc = self.speaker.connected().await;
            let _ = renew(rpc, &self.session).await;
        }
        if self.dice.random_range(0..STRAYS) == 0 {
            self.speaker.stray();
        }
        // Before it is written down that something was done.
        self.speaker.connected().await;
        let index = self.begin(act.clone(), now());
        let answer = self.speaker.act(&act).await;
        let is_over = matches!(act, Act::Close { .. })
            || matches!((&act, &answer), (Act::Register { .. }, Answer::NotFound));
        if answer == Answer::Exhausted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.end(index, answer);
        if is_over {
            self.open().await;
        }
    }

    fn choose(&mut self) -> Act {
        let session = self.session.clone();
        let key = self.key();
        if self.dice.random_range(0..100) < self.identity.zeal.maintenance_percent {
            let value = (self.dice.random_range(0..3) > 0).then(|| self.value());
            return Act::Maintain { key, value };
        }
        match self.dice.random_range(0..100) {
            0..34 => Act::Register { key, session, value: self.value() },
            34..56 => Act::Update { key, session, value: self.value() },
            56..66 => Act::Deregister { key, session },
            66..80 if !self.identity.is_printing => self.list(),
            66..97 => Act::Get { key },
            _ => Act::Close { session },
        }
    }

    fn list(&mut self) -> Act {
        if self.dice.random_range(0..3) > 0 {
            return list_everything();
        }
        Act::List { query: random_query(&mut self.dice) }
    }

    /// One that everybody wants, or one of its own.
    fn key(&mut self) -> String {
        let shared_keys = self.identity.zeal.shared_keys;
        match self.dice.random_range(0..shared_keys + self.identity.zeal.own_keys) {
            shared if shared < shared_keys => format!("shared-{shared}"),
            own => format!("own-{}-{own}", self.identity.number),
        }
    }

    fn value(&mut self) -> u64 {
        self.written += 1;
        value_of(self.identity.number, self.written)
    }

    fn begin(&mut self, act: Act, called: u64) -> usize {
        let index = self.records.len();
        if self.identity.is_printing {
            print(&format!("call {index} {called} {}", act_as_text(&act)));
        }
        self.records.push(Record { act, called, answered: called, answer: Answer::Lost });
        index
    }

    fn end(&mut self, index: usize, answer: Answer) {
        let answered = now();
        if self.identity.is_printing {
            print(&format!("answer {index} {answered} {}", answer_as_text(&answer)));
        }
        self.records[index].answered = answered;
        self.records[index].answer = answer;
    }
}

/// What somebody could want to look at.
pub(crate) fn random_query(dice: &mut StdRng) -> Query {
    let service = SERVICES[dice.random_range(0..SERVICES.len())].parse().unwrap();
    let tags: &[&str] = [&[][..], &["blue"], &["blue", "green"]][dice.random_range(0..3)];
    Query {
        service: (dice.random_range(0..4) > 0).then_some(service),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        health: [HealthFilter::Passing, HealthFilter::Usable, HealthFilter::Any][dice.random_range(0..3)],
        lifecycle: [LifecycleFilter::Ready, LifecycleFilter::Any][dice.random_range(0..2)],
        within: None,
    }
}

/// Writes a line at once: whoever writes it may be killed in the next moment.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}

fn act_as_text(act: &Act) -> String {
    let or_none = |value: &Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
    match act {
        Act::Register { key, session, value } => format!("register {key} {session} {value}"),
        Act::Update { key, session, value } => format!("update {key} {session} {value}"),
        Act::Deregister { key, session } => format!("deregister {key} {session}"),
        Act::Maintain { key, value } => format!("maintain {key} {}", or_none(value)),
        Act::Close { session } => format!("close {session}"),
        Act::Expire { session } => format!("expire {session}"),
        Act::Get { key } => format!("get {key}"),
        Act::List { .. } => unreachable!("one who prints does not list"),
    }
}

fn answer_as_text(answer: &Answer) -> String {
    match answer {
        Answer::Done(at) => format!("done {at}"),
        Answer::NotFound => "not-found".to_owned(),
        Answer::Held => "held".to_owned(),
        Answer::Exhausted => "exhausted".to_owned(),
        Answer::Found(at, Content { registered, said, kept_out }) => {
            format!("found {at} {registered} {said} {}", kept_out.unwrap_or_default())
        }
        Answer::Listed(..) => unreachable!("one who prints does not list"),
        Answer::Lost => "lost".to_owned(),
    }
}

/// What a client wrote down before it was killed. What it had no answer for may have been done.
pub(crate) fn read_records(text: &str) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["call", index, called, ..] => {
                assert_eq!(index.parse(), Ok(records.len()), "{line}");
                let (called, act) = (called.parse().unwrap(), act_of_text(&words[3..]));
                records.push(Record { act, called, answered: called, answer: Answer::Lost });
            }
            ["answer", index, answered, ..] => {
                let record = &mut records[index.parse::<usize>().unwrap()];
                record.answered = answered.parse().unwrap();
                record.answer = answer_of_text(&words[3..]);
            }
            _ => panic!("a client wrote {line:?}"),
        }
    }
    records
}

fn act_of_text(words: &[&str]) -> Act {
    let owned = |word: &str| word.to_owned();
    match *words {
        ["register", key, session, value] => {
            Act::Register { key: owned(key), session: owned(session), value: value.parse().unwrap() }
        }
        ["update", key, session, value] => {
            Act::Update { key: owned(key), session: owned(session), value: value.parse().unwrap() }
        }
        ["deregister", key, session] => Act::Deregister { key: owned(key), session: owned(session) },
        ["maintain", key, value] => Act::Maintain { key: owned(key), value: value.parse().ok() },
        ["close", session] => Act::Close { session: owned(session) },
        ["expire", session] => Act::Expire { session: owned(session) },
        ["get", key] => Act::Get { key: owned(key) },
        _ => panic!("a client did {words:?}"),
    }
}

fn answer_of_text(words: &[&str]) -> Answer {
    let number = |word: &str| word.parse::<u64>().unwrap();
    match *words {
        ["done", at] => Answer::Done(number(at)),
        ["not-found"] => Answer::NotFound,
        ["held"] => Answer::Held,
        ["exhausted"] => Answer::Exhausted,
        ["lost"] => Answer::Lost,
        ["found", at, registered, said, kept_out] => {
            let kept_out = Some(number(kept_out)).filter(|number| *number > 0);
            Answer::Found(
                number(at),
                Content { registered: number(registered), said: number(said), kept_out },
            )
        }
        _ => panic!("a client was answered {words:?}"),
    }
}
