//! Waiting for what others do to links, routes and the packet filter.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use netloft_link::{Notice, Watcher};
use netloft_netns::{Enterer, Netns};
use netloft_nft::Firewall;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

use super::KernelError;
use crate::error::chain;
use crate::kernel::{Incident, Watch};

/// How long the packet filter is not looked at after it was: our own changes are heard, too, and one look is enough for
/// all of them.
const FILTER_PACE: Duration = Duration::from_millis(200);

pub(super) struct LinuxWatch {
    watcher: Watcher,
    filter: OwnedFd,
    /// When the packet filter was last told about.
    filter_told: Option<Instant>,
    heard: VecDeque<Incident>,
}

impl LinuxWatch {
    pub(super) fn open(enterer: &Enterer, host: &Netns, firewall: &Firewall) -> Result<Self, KernelError> {
        let filter = firewall.events_fd().try_clone_to_owned();
        Ok(Self {
            watcher: Watcher::open(enterer, host)?,
            filter: filter.map_err(|source| KernelError::Watch { source })?,
            filter_told: None,
            heard: VecDeque::new(),
        })
    }

    /// Takes what waits about links and routes, as far as it concerns anybody.
    fn listen(&mut self) {
        match self.watcher.read() {
            Ok(notices) => self.heard.extend(notices.into_iter().flatten().filter_map(incident)),
            Err(error) => {
                warn!(error = chain(&error), "cannot hear what happens to links");
                self.heard.push_back(Incident::Overrun);
            }
        }
    }
}

impl Watch for LinuxWatch {
    fn next(&mut self, patience: Duration) -> Option<Incident> {
        let incident = self.heard.pop_front();
        if incident.is_some() {
            return incident;
        }
        let is_filter_due = self.filter_told.is_none_or(|told| told.elapsed() >= FILTER_PACE);
        let patience = if is_filter_due { patience } else { patience.min(FILTER_PACE) };
        let mut fds = vec![PollFd::new(self.watcher.as_fd(), PollFlags::POLLIN)];
        if is_filter_due {
            fds.push(PollFd::new(self.filter.as_fd(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout).is_err() {
            return None;
        }
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let (has_news, has_filter_news) = (is_ready(&fds[0]), fds.get(1).is_some_and(is_ready));
        if has_news {
            self.listen();
        }
        if has_filter_news {
            self.filter_told = Some(Instant::now());
            self.heard.push_back(Incident::Filter);
        }
        self.heard.pop_front()
    }
}

fn incident(notice: Notice) -> Option<Incident> {
    match notice {
        Notice::LinkGone { name, .. } => Some(Incident::LinkGone(name.parse().ok()?)),
        Notice::RouteAdded { destination } => Some(Incident::Route(destination)),
        _ => Some(Incident::Overrun),
    }
}
