//! What a server keeps to know its sessions after a restart, and what it was served under.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use netloft_access::SessionKey;

/// The file of the key in the data directory.
pub(super) const SESSION_KEY: &str = "session-key";
/// The file that says under which list the store was served last.
const SERVED_UNDER: &str = "served-under";

/// The key by which sessions are told whose they are. It has to be kept for as long as the sessions are.
pub(super) fn session_key(path: &Path) -> anyhow::Result<SessionKey> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes: [u8; 32] = rand::random();
            write_private(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
            bytes.to_vec()
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} can be read by others (mode {:o}): whoever has it can take over sessions",
            path.display(),
            mode & 0o777
        );
    }
    match <&[u8; 32]>::try_from(bytes.as_slice()) {
        Ok(bytes) => Ok(SessionKey::from_bytes(bytes)),
        Err(_) => bail!("{} is damaged: remove it, and clients register again", path.display()),
    }
}

/// Remembers under which list a store was served.
pub(super) struct ServedUnder(PathBuf);

impl ServedUnder {
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self(directory.join(SERVED_UNDER))
    }

    /// Remembers `mark` from now on, and tells whether it was the one before. If that cannot be said it was not.
    pub(super) fn replace(&self, mark: &str) -> bool {
        let is_same = fs::read_to_string(&self.0).is_ok_and(|before| before == mark);
        is_same || {
            // If it cannot be remembered, watches begin anew after the next restart, too.
            let _ = fs::remove_file(&self.0);
            let _ = write_private(&self.0, mark.as_bytes());
            false
        }
    }
}

/// Writes a file for its owner only, so that it is there as a whole, on the disk, or not at all. What had its name is
/// replaced.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
