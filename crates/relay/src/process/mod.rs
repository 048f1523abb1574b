//! The relay as a process: what the operating system and the service manager give it, and what it
//! gives up.
//!
//! Invariant: everything that needs root or one single thread is done by [`prepare`], before there
//! is a second thread; what is opened later is opened with the rights that stay, so that a reload
//! can do whatever the start could. Not pure.

mod confine;
mod notify;
mod privileges;
mod sockets;
pub(crate) mod watchdog;

use anyhow::Context;

pub(crate) use self::privileges::make_data_dir;
pub use self::{confine::Confinement, notify::Notifier, sockets::Sockets};
use crate::config::Config;

/// What a process has that may begin to work.
#[derive(Debug)]
pub struct Prepared {
    /// The service manager.
    pub notifier: Notifier,
    /// The sockets on which it listens.
    pub sockets: Sockets,
    /// Whether it is held to where it may write.
    pub confinement: Confinement,
}

/// Opens all sockets, then gives up the rights that are not needed any more.
pub fn prepare(config: &Config) -> anyhow::Result<Prepared> {
    let notifier = Notifier::of_environment().context("NOTIFY_SOCKET cannot be used")?;
    let account = privileges::account(config)?;
    let sockets = Sockets::open(config)?;
    privileges::give_up(config, account.as_ref())?;
    // The last one: accounts and sockets are had before.
    let confinement = confine::confine(config).context("cannot be held by Landlock")?;
    Ok(Prepared { notifier, sockets, confinement })
}
