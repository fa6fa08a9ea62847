//! `netloft doctor` and `netloft gc`.

use serde_json::json;

use super::agent;
use crate::args::Common;
use crate::output;

/// What `netloft doctor` exits with if it found anything.
const FOUND: u8 = 1;

pub(crate) async fn doctor(common: &Common) -> anyhow::Result<u8> {
    let findings = agent(common)?.examine().await?;
    if common.json {
        let all = findings
            .iter()
            .map(|one| json!({ "problem": one.problem, "cause": one.cause, "remedy": one.remedy }));
        output::json(&all.collect::<Vec<_>>())?;
    } else if findings.is_empty() {
        output::line("everything is as it should be")?;
    } else {
        findings.iter().try_for_each(|one| {
            output::line(format_args!("{}\n  cause   {}\n  remedy  {}", one.problem, one.cause, one.remedy))
        })?;
    }
    Ok(if findings.is_empty() { 0 } else { FOUND })
}

pub(crate) async fn collect_garbage(dry_run: bool, common: &Common) -> anyhow::Result<()> {
    let strays = agent(common)?.collect_garbage(dry_run).await?;
    if common.json {
        return output::json(&strays);
    }
    if strays.is_empty() {
        output::line("there is nothing to take away")?;
    }
    let done = if dry_run { "would take away" } else { "took away" };
    Ok(strays.iter().try_for_each(|stray| output::line(format_args!("{done} {stray}")))?)
}
