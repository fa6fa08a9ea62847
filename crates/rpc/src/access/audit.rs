//! The audit log: who did what to what, and what came of it. One line of JSON for each.
//!
//! A thread of its own writes, so that a slow disk makes no call wait. What it cannot keep up with is not written but
//! counted, and so are refusals of which there are too many at once: whoever is refused must not be able to fill a disk.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use netloft_access::Identity;
use serde_json::{Map, Value, json};
use tracing::error;

use super::Requester;
use crate::Peer;

/// Lines that wait to be written: half a second of a server that changes as fast as it can.
const QUEUE_LEN_MAX: usize = 8_192;
/// Refusals written in a second.
const REFUSALS_PER_SECOND: u32 = 100;
/// How often is told what was not written.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// What is written besides changes and refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditOptions {
    /// Whether lookups and watches are, too.
    pub reads: bool,
}

/// Where is told what was done and refused. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    lines: SyncSender<Message>,
    counts: Arc<Counts>,
    options: AuditOptions,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines that found no room, or could not be written.
    dropped: AtomicU64,
    /// Refusals beyond those written in a second.
    refusals_dropped: AtomicU64,
    second: Mutex<Option<(Instant, u32)>>,
}

/// What the thread is sent.
#[derive(Debug)]
enum Message {
    Line(String),
    End,
}

/// The thread that writes.
#[derive(Debug)]
pub struct AuditWriter {
    thread: JoinHandle<()>,
    lines: SyncSender<Message>,
}

impl AuditWriter {
    /// Waits until everything is written that was told before. What is told afterwards is lost.
    pub fn finish(self) {
        // It is gone already, or panicked: nothing more can be written.
        let _ = self.lines.send(Message::End);
        let _ = self.thread.join();
    }
}

impl Audit {
    /// Starts a thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// If there can be no thread.
    pub fn start(out: impl Write + Send + 'static, options: AuditOptions) -> io::Result<(Self, AuditWriter)> {
        let (lines, waiting) = sync_channel(QUEUE_LEN_MAX);
        let counts = Arc::new(Counts::default());
        let writer = Writer { out, waiting, counts: Arc::clone(&counts), fails: false };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        let end = AuditWriter { thread, lines: lines.clone() };
        Ok((Self { lines, counts, options }, end))
    }

    /// Whether reads that were answered are to be told.
    pub(crate) fn tells_reads(&self) -> bool {
        self.options.reads
    }

    /// Never waits.
    pub(crate) fn tell(&self, event: Event) {
        if matches!(event.outcome, Outcome::Refused(_)) && !self.counts.may_refuse(Instant::now()) {
            self.counts.refusals_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.lines.try_send(Message::Line(event.to_line())).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counts {
    fn may_refuse(&self, now: Instant) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let (begun, count) =
            second.filter(|(begun, _)| now - *begun < Duration::from_secs(1)).unwrap_or((now, 0));
        *second = Some((begun, count + 1));
        count < REFUSALS_PER_SECOND
    }
}

struct Writer<W> {
    out: W,
    waiting: Receiver<Message>,
    counts: Arc<Counts>,
    fails: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            let mut next = self.waiting.recv_timeout(TELL_INTERVAL);
            goes_on = !matches!(next, Ok(Message::End) | Err(RecvTimeoutError::Disconnected));
            while let Ok(Message::Line(line)) = next {
                self.write(&line);
                next = self.waiting.try_recv().map_err(|_| RecvTimeoutError::Timeout);
                goes_on = !matches!(next, Ok(Message::End));
            }
            self.tell_dropped();
            self.flush();
        }
    }

    fn write(&mut self, line: &str) {
        let written = self.out.write_all(line.as_bytes());
        self.note(written);
    }

    fn flush(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = &written {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            if !self.fails {
                error!(%error, "cannot write the audit log");
            }
        }
        self.fails = written.is_err();
    }

    fn tell_dropped(&mut self) {
        let dropped = self.counts.dropped.swap(0, Ordering::Relaxed);
        let refusals = self.counts.refusals_dropped.swap(0, Ordering::Relaxed);
        if dropped + refusals > 0 {
            let counts = json!({ "operation": "audit", "dropped": dropped, "refusals_dropped": refusals });
            let line = line(SystemTime::now(), counts);
            self.write(&line);
        }
    }
}

/// What came of something.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// Why not. It may say more than the one who asked was told.
    Refused(String),
}

/// Something that was done or refused. It holds no secret and no id of a session.
#[derive(Debug)]
pub(crate) struct Event {
    time: SystemTime,
    identity: Option<Identity>,
    peer: String,
    operation: &'static str,
    object: Option<String>,
    /// What the session is called where its id must not be told.
    session: Option<String>,
    outcome: Outcome,
}

impl Event {
    pub(crate) fn of(requester: &Requester, operation: &'static str, outcome: Outcome) -> Self {
        let identity = Some(requester.admitted.identity.clone());
        Self { identity, ..Self::of_peer(&requester.peer, operation, outcome) }
    }

    /// Of somebody of whom only is known where they are.
    pub(crate) fn of_peer(peer: &Peer, operation: &'static str, outcome: Outcome) -> Self {
        let peer = peer.to_string();
        Self {
            time: SystemTime::now(),
            identity: None,
            peer,
            operation,
            object: None,
            session: None,
            outcome,
        }
    }

    pub(super) fn by(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    pub(crate) fn about(self, object: Option<String>, session: Option<String>) -> Self {
        Self { object, session, ..self }
    }

    fn to_line(&self) -> String {
        let mut fields = Map::new();
        let mut say = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                fields.insert(name.to_owned(), Value::from(value));
            }
        };
        say("identity", self.identity.as_ref().map(ToString::to_string));
        say("peer", Some(self.peer.clone()));
        say("operation", Some(self.operation.to_owned()));
        say("object", self.object.clone());
        say("session", self.session.clone());
        match &self.outcome {
            Outcome::Done => say("outcome", Some("done".to_owned())),
            Outcome::Refused(why) => {
                say("outcome", Some("refused".to_owned()));
                say("why", Some(why.clone()));
            }
        }
        line(self.time, Value::Object(fields))
    }
}

/// A line, with the time before the rest.
fn line(time: SystemTime, fields: Value) -> String {
    let time = humantime::format_rfc3339_millis(time);
    let rest = fields.to_string();
    format!("{{\"time\":\"{time}\",{}\n", &rest[1..])
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Passes on what is written.
    struct Out(Sender<Vec<u8>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Waits until what is written is taken.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(outcome: Outcome) -> Event {
        let peer = Peer::Tcp("10.0.0.2:1234".parse().unwrap());
        Event::of_peer(&peer, "register", outcome).about(Some("api-\"1\"\n".to_owned()), None)
    }

    fn lines(written: &Receiver<Vec<u8>>) -> Vec<Value> {
        let text: Vec<u8> = written.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_it_is_about() {
        let (out, written) = channel();
        let (audit, writer) = Audit::start(Out(out), AuditOptions::default()).unwrap();
        audit.tell(event(Outcome::Done));
        writer.finish();
        let lines = lines(&written);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["object"], "api-\"1\"\n");
        assert_eq!((&lines[0]["outcome"], &lines[0]["peer"]), (&json!("done"), &json!("10.0.0.2:1234")));
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn refusals_beyond_a_hundred_a_second_are_counted_and_changes_are_not_among_them() {
        let (out, written) = channel();
        let (audit, writer) = Audit::start(Out(out), AuditOptions::default()).unwrap();
        for _ in 0..1_000 {
            audit.tell(event(Outcome::Refused("no".to_owned())));
        }
        audit.tell(event(Outcome::Done));
        writer.finish();
        let lines = lines(&written);
        let count = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count();
        let dropped: u64 = lines.iter().filter_map(|line| line["refusals_dropped"].as_u64()).sum();
        assert_eq!(count("done"), 1);
        assert_eq!(count("refused") as u64 + dropped, 1_000);
        // A slow machine may see a second of the clock go by.
        assert!(count("refused") <= 300, "{}", count("refused"));
    }

    #[test]
    fn a_writer_that_hangs_makes_nobody_wait_and_what_it_missed_is_told() {
        let (out, written) = sync_channel::<Vec<u8>>(0);
        let (audit, writer) = Audit::start(Slow(out), AuditOptions::default()).unwrap();
        for _ in 0..QUEUE_LEN_MAX + 100 {
            audit.tell(event(Outcome::Done));
        }
        let reader = std::thread::spawn(move || written.iter().flatten().collect::<Vec<u8>>());
        writer.finish();
        let text = reader.join().unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let done = lines.iter().filter(|line| line["outcome"] == "done").count();
        let dropped: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
        assert_eq!(done as u64 + dropped, QUEUE_LEN_MAX as u64 + 100);
        assert!((98..=100).contains(&dropped), "{dropped}");
    }
}
