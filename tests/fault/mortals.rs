//! Sessions that are renewed for a while and then not any more: neither may they end early, nor live on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::speaker::{Speaker, renew};
use crate::words::{Act, Answer, Record, now, value_of};

/// The numbers of those who let sessions die.
const NUMBERS: std::ops::Range<u64> = 50..100;

/// Whether a number is that of somebody who lets sessions die.
pub(crate) fn is_mortal(number: u64) -> bool {
    NUMBERS.contains(&number)
}

/// What is known of a session that was left alone.
#[derive(Debug, Clone)]
pub(crate) struct Mortal {
    /// Its only instance.
    pub(crate) key: String,
    pub(crate) ttl: Duration,
    /// When the last renewal was sent that was answered.
    pub(crate) renewed: u64,
    /// When the last renewal was given up or answered. It was heard no later.
    pub(crate) last_tried: u64,
    /// Whether it ended although it was renewed as often as that went.
    pub(crate) was_missed: bool,
}

/// Lets one session after another live and die, until it is told to stop.
pub(crate) async fn live_and_die(
    index: u8,
    servers: Vec<SocketAddr>,
    from: IpAddr,
    seed: u64,
    stop: watch::Receiver<bool>,
) -> (Vec<Mortal>, Vec<Record>) {
    let number = NUMBERS.start + u64::from(index);
    let mut dice = StdRng::seed_from_u64(seed);
    let mut speaker = Speaker::new(servers, from);
    let (mut mortals, mut records) = (Vec::new(), Vec::new());
    let mut count = 0;
    while !*stop.borrow() {
        count += 1;
        let key = format!("mortal-{number}-{count}");
        let ttl = Duration::from_millis(dice.random_range(1_000..2_000));
        let opened = now();
        let session = speaker.open(ttl).await;
        let act =
            Act::Register { key: key.clone(), session: session.clone(), value: value_of(number, count) };
        let called = now();
        let answer = speaker.act(&act).await;
        let has_begun = matches!(answer, Answer::Done(_));
        let is_possible = matches!(answer, Answer::Lost);
        records.push(Record { act, called, answered: now(), answer });
        let expiry = Record {
            act: Act::Expire { session: session.clone() },
            called: opened + u64::try_from(ttl.as_nanos()).unwrap(),
            answered: 0,
            answer: Answer::Lost,
        };
        records.push(expiry);
        if !has_begun {
            // One that may be there is waited for in the end, like the others.
            sleep(if is_possible { ttl } else { Duration::from_millis(50) }).await;
            continue;
        }
        let mut mortal = Mortal { key, ttl, renewed: opened, last_tried: now(), was_missed: false };
        let life = Duration::from_millis(dice.random_range(0..2_500));
        mortal.be_renewed(&mut speaker, &session, life, &mut dice).await;
        mortals.push(mortal);
        // The next begins while this one dies.
        sleep(ttl / 2).await;
    }
    (mortals, records)
}

impl Mortal {
    async fn be_renewed(&mut self, speaker: &mut Speaker, session: &str, life: Duration, dice: &mut StdRng) {
        let end = Instant::now() + life;
        while Instant::now() < end {
            sleep(self.ttl / 4).await;
            if dice.random_range(0..6) == 0 {
                speaker.stray();
            }
            let rpc = speaker.connected().await;
            let sent = now();
            match renew(rpc, session).await {
                Some(true) => self.renewed = sent,
                Some(false) => {
                    self.was_missed = true;
                    return;
                }
                None => speaker.hang_up(),
            }
            self.last_tried = now();
        }
    }
}
