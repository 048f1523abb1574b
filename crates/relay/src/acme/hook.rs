//! The operator's program that publishes records for a challenge in the DNS.
//!
//! Invariant: no shell reads what a CA said; a program that takes too long is ended. Not pure:
//! processes.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use tokio::{process::Command, time::timeout};

/// The program with its first arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook<'a> {
    /// The program, and what comes before our arguments.
    pub(super) command: &'a [String],
    /// How long it may take.
    pub(super) wait: Duration,
}

impl Hook<'_> {
    /// Has it do this (`add` or `remove`) with a TXT record; errs with what it said.
    pub(super) async fn run(self, action: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let (program, first) = self.command.split_first().context("acme.dns_hook is empty")?;
        let running = Command::new(program)
            .args(first)
            .args([action, name, text])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let done = timeout(self.wait, running).await;
        let done = done.with_context(|| format!("{program} {action} took too long"))?;
        let done = done.with_context(|| format!("cannot run {program}"))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr);
        let last = said.lines().last().unwrap_or_default();
        anyhow::bail!("{program} {action} {name}: {}: {last}", done.status)
    }
}
