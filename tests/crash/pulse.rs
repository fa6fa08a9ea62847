//! A connection that is never quiet: who stops live traffic is found out.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netloft_netns::Netns;

/// How long nothing may come back. A lost packet would be sent again after 200 ms; the rest is for a busy machine.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long after an answer the next question comes.
const PACE: Duration = Duration::from_millis(2);

/// What was heard.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    /// How often.
    pub(crate) beats: u64,
    /// The longest wait for an answer.
    pub(crate) longest: Duration,
    /// Why no more is heard.
    broken: Option<String>,
}

/// One connection, kept busy by a thread.
pub(crate) struct Pulse {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Connects from a namespace, and goes on until it is dropped.
    pub(crate) fn start(from: &Netns, to: SocketAddr) -> Self {
        let stream = from.run(|| connect(to)).unwrap().unwrap();
        let (heard, stop) = (Arc::<Mutex<Heard>>::default(), Arc::<Mutex<bool>>::default());
        let (noted, stopped) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !*lock(&stopped) {
                let asked = Instant::now();
                let answer = beat(&stream);
                let mut heard = lock(&noted);
                heard.longest = heard.longest.max(asked.elapsed());
                match answer {
                    Ok(()) => heard.beats += 1,
                    Err(error) => {
                        heard.broken = Some(error.to_string());
                        return;
                    }
                }
                drop(heard);
                thread::sleep(PACE);
            }
        });
        Self { heard, stop, thread: Some(thread) }
    }

    /// What was heard so far, if it never was too quiet.
    pub(crate) fn check(&self) -> Heard {
        let heard = lock(&self.heard).clone();
        assert!(heard.broken.is_none(), "the connection broke after {} beats: {heard:?}", heard.beats);
        assert!(heard.longest < SILENCE_MAX, "the connection fell silent: {heard:?}");
        heard
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        *lock(&self.stop) = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, SILENCE_MAX)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

fn beat(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(&[7])?;
    stream.read_exact(&mut [0])
}

/// Whether somebody new who connects from a namespace is answered.
pub(crate) fn answers(from: &Netns, to: SocketAddr) -> bool {
    from.run(|| connect(to).and_then(|stream| beat(&stream)).is_ok()).unwrap()
}

/// Sends back what comes to a port of a namespace, until this program ends.
pub(crate) fn echo(at: &Netns, port: u16) {
    let listener = at.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                io::copy(&mut &stream, &mut &stream)
            });
        }
    });
}
