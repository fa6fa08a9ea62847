//! Files that may change while the server runs.
//!
//! They are looked at twice a second and not watched: inotify tells of names and not of what is behind a symbolic link
//! or a mount, which is how certificates are renewed in containers; it tells nothing on network file systems; and it can
//! lose what it tells. Two calls of `stat` a second cost nothing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{error, info};

/// How often they are looked at: what is revoked counts for nothing within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// What changes when a file does: device, inode, length, and when it was modified and changed, to the nanosecond. `None`
/// if there is none.
type Stamp = Option<[i128; 5]>;

/// Files, and how they were when they were first looked at.
pub(super) struct Follower {
    paths: Vec<PathBuf>,
    stamps: Vec<Stamp>,
}

impl Follower {
    /// Looks at the files: read them afterwards, so that no change in between is missed.
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        let stamps = paths.iter().map(|path| stamp(path)).collect();
        Self { paths, stamps }
    }

    /// Reads the files again whenever one of them has changed. What cannot be used is told, and what was there stays. It
    /// ends when nobody receives any more.
    pub(super) fn follow<T: Send + Sync + 'static>(
        mut self,
        what: &'static str,
        first: T,
        read: impl Fn() -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> watch::Receiver<Arc<T>> {
        let (publish, current) = watch::channel(Arc::new(first));
        let read = Arc::new(read);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = publish.closed() => return,
                    () = sleep(INTERVAL) => {}
                }
                let read = Arc::clone(&read);
                let looked = spawn_blocking(move || {
                    let stamps: Vec<_> = self.paths.iter().map(|path| stamp(path)).collect();
                    let has_changed = stamps != self.stamps;
                    self.stamps = stamps;
                    (self, has_changed.then(|| read()))
                });
                let Ok((follower, found)) = looked.await else { return };
                self = follower;
                match found {
                    None => {}
                    Some(Ok(new)) => {
                        info!("{what}: read again");
                        publish.send_replace(Arc::new(new));
                    }
                    Some(Err(error)) => error!("{what}: {error:#}; what was there before stays"),
                }
            }
        });
        current
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Some([
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.len().into(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ])
}
