//! A network: between each client and the server a wire that delays, withholds and breaks.
//!
//! It is made of unix sockets, which a kernel serves at once and in order, in the thread of whoever writes: so what a
//! process of one thread sees of them follows from what it does.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

/// What a wire does to what goes through it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Nothing of what the client sends arrives until it is over.
    pub(crate) withholds_requests: bool,
    /// Nothing of what the server sends does.
    pub(crate) withholds_answers: bool,
    /// The longest delay.
    pub(crate) delay_max: Duration,
    /// Connections of before this number are broken.
    pub(crate) epoch: u64,
}

/// The wire of one client.
pub(crate) struct Wire {
    pub(crate) weather: watch::Sender<Weather>,
    /// When its weather last changed.
    disturbed: Rc<Cell<Instant>>,
    pub(crate) path: PathBuf,
}

/// The longest delay of a calm wire.
const CALM: Duration = Duration::from_millis(40);

impl Wire {
    pub(crate) fn lay(path: PathBuf, server: &Path, seed: u64) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let (weather, forecast) = watch::channel(Weather { delay_max: CALM, ..Weather::default() });
        let mut dice = StdRng::seed_from_u64(seed);
        let server = server.to_owned();
        spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, forecast, seed) = (server.clone(), forecast.clone(), dice.random());
                spawn_local(async move {
                    // Nobody is there: the connection ends as soon as it began.
                    if let Ok(server) = UnixStream::connect(&server).await {
                        carry_both_ways(client, server, forecast, seed).await;
                    }
                });
            }
        });
        Self { weather, disturbed: Rc::new(Cell::new(Instant::now())), path }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Weather)) {
        self.disturb();
        self.weather.send_modify(change);
    }

    pub(crate) fn calm(&self) {
        self.disturb();
        let epoch = self.weather.borrow().epoch;
        self.weather.send_replace(Weather { delay_max: CALM, epoch, ..Weather::default() });
    }

    pub(crate) fn disturb(&self) {
        self.disturbed.set(Instant::now());
    }

    /// Since when nothing of what the server sends arrives, if so it is.
    pub(crate) fn withholds_since(&self) -> Option<Instant> {
        self.weather.borrow().withholds_answers.then(|| self.disturbed.get())
    }

    /// When it was last other than calm; now, if it still is.
    pub(crate) fn disturbed(&self) -> Instant {
        let weather = *self.weather.borrow();
        let is_calm = weather == Weather { delay_max: CALM, epoch: weather.epoch, ..Weather::default() };
        if is_calm { self.disturbed.get() } else { Instant::now() }
    }
}

async fn carry_both_ways(
    client: UnixStream,
    server: UnixStream,
    forecast: watch::Receiver<Weather>,
    seed: u64,
) {
    let epoch = forecast.borrow().epoch;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests =
        carry(from_client, to_server, forecast.clone(), |weather| weather.withholds_requests, seed);
    let answers = carry(from_server, to_client, forecast.clone(), |weather| weather.withholds_answers, !seed);
    let mut breaking = forecast;
    tokio::select! {
        biased;
        _ = breaking.wait_for(|weather| weather.epoch != epoch) => {}
        () = requests => {}
        () = answers => {}
    }
}

/// Carries one way, in order, each piece with a delay of its own, until one of the ends is closed.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    forecast: watch::Receiver<Weather>,
    withholds: fn(&Weather) -> bool,
    seed: u64,
) {
    let mut dice = StdRng::seed_from_u64(seed);
    let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let delays = forecast.clone();
    let sending = async move {
        let mut piece = vec![0; 16 * 1_024];
        while let Ok(len @ 1..) = from.read(&mut piece).await {
            let longest = u64::try_from(delays.borrow().delay_max.as_micros()).unwrap();
            let delay = Duration::from_micros(dice.random_range(0..=longest));
            let piece = (Instant::now() + delay, piece[..len].to_vec());
            if under_way.send(piece).await.is_err() {
                return;
            }
        }
    };
    let receiving = async move {
        let mut forecast = forecast;
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            let _ = forecast.wait_for(|weather| !withholds(weather)).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // What was sent before the end has arrived.
        sleep(Duration::from_millis(1)).await;
    };
    tokio::join!(sending, receiving);
}
