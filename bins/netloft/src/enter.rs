//! How a process gets into a sandbox.

use std::fs::File;

use anyhow::Context as _;
use netloft_netns::{EnterOptions, Netns};
use netloft_types::Attachment;
use tokio::process::Command;

/// Makes a command start in the namespaces of an attachment, and end with this thread.
pub(crate) fn enter(command: &mut Command, attachment: &Attachment) -> anyhow::Result<()> {
    let mut options = EnterOptions::new(&Netns::open(&attachment.netns)?).kill_with_parent();
    if let Some(userns) = &attachment.userns {
        let opened = File::open(userns).with_context(|| format!("cannot open {}", userns.display()))?;
        options = options.user_namespace(opened.into());
    }
    options.apply(command.as_std_mut());
    Ok(())
}
