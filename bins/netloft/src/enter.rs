//! How a process gets into a sandbox.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, ensure};
use netloft_netns::{EnterOptions, Netns};
use netloft_types::Attachment;
use tokio::process::Command;

/// Where a resolver looks (`resolv.conf(5)`).
const RESOLV_CONF: &CStr = c"/etc/resolv.conf";

/// Makes a command start in the namespaces of an attachment, and end with this thread.
///
/// If the attachment says what is asked for names, the command has a `resolv.conf` of its own.
pub(crate) fn enter(command: &mut Command, attachment: &Attachment) -> anyhow::Result<()> {
    let mut options = EnterOptions::new(&Netns::open(&attachment.netns)?).kill_with_parent();
    if let Some(userns) = &attachment.userns {
        let opened = File::open(userns).with_context(|| format!("cannot open {}", userns.display()))?;
        options = options.user_namespace(opened.into());
    }
    let dns = &attachment.endpoint.dns;
    if !dns.is_empty() {
        let path = RESOLV_CONF.to_string_lossy();
        ensure!(
            Path::new(&*path).exists(),
            "there is no {path} for the sandbox's own to be shown in place of"
        );
        options = options.replace_file(RESOLV_CONF.into(), dns.to_string().into_bytes());
    }
    options.apply(command.as_std_mut());
    Ok(())
}
