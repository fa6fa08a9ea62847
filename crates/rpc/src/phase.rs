//! How far a server is on its way from serving to gone.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; streams end.
    Draining,
    /// What is left is cut.
    Stopped,
}

/// Tells the streams of a server when to end.
#[derive(Debug, Clone)]
pub struct Phases(watch::Receiver<Phase>);

impl Phases {
    pub(crate) fn start() -> (watch::Sender<Phase>, Self) {
        let (phase, phases) = watch::channel(Phase::Serving);
        (phase, Self(phases))
    }

    /// Waits until the server begins to shut down. A stream should then end, with
    /// [`status::shutting_down`](crate::status::shutting_down), or it holds the shutdown up.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    pub(crate) async fn stopped(&self) {
        self.reached(Phase::Stopped).await;
    }

    /// A server that is gone without saying so has reached every phase.
    async fn reached(&self, phase: Phase) {
        let _ = self.0.clone().wait_for(|reached| *reached >= phase).await;
    }
}
