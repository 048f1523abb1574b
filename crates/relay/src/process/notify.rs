//! What the service manager is told (`sd_notify(3)`).
//!
//! Invariant: nothing here can stop the mail: a manager that does not listen is told nothing, and
//! waited for no longer than a moment. Not pure: a socket of datagrams.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The way to the service manager; where there is none, nobody is told.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    to: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// That of `NOTIFY_SOCKET`; errs where such a socket cannot be meant.
    pub fn of_environment() -> io::Result<Self> {
        let value = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let Some(socket) = value("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let watchdog =
            watchdog(value("WATCHDOG_USEC").as_deref(), value("WATCHDOG_PID").as_deref());
        Self::to(&socket, watchdog)
    }

    /// Tells the manager at `socket`, an absolute path, or behind an `@` a name that is in no file
    /// system. `watchdog`: it gives us up when it hears nothing for so long; `None`: never.
    pub fn to(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            _ => {
                let why = "neither an absolute path nor a name behind an @";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        };
        let sender = UnixDatagram::unbound()?;
        sender.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { to: Some(Arc::new((sender, address))), watchdog })
    }

    /// Whether anybody is told.
    pub const fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// How long the manager waits for [`Self::alive`]; `None`: for ever.
    pub const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// All sockets listen; also that what [`Self::reloading`] began is done.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is read again. [`Self::ready`] must follow, also where it is refused: the
    /// manager waits for it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// No new mail is taken, and the process ends within this time.
    pub fn stopping(&self, within: Duration) {
        let micros = (within + STOPPING_MARGIN).as_micros();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    /// The relay works.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// One line on how the relay is, for `systemctl status`.
    pub fn status(&self, text: &str) {
        // A line of its own would be an assignment of its own.
        self.tell(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    fn tell(&self, text: &str) {
        let Some((sender, address)) = self.to.as_deref() else { return };
        if let Err(error) = sender.send_to_addr(text.as_bytes(), address) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

/// How long the manager waits for us, where it is for this process that it does.
fn watchdog(micros: Option<&OsStr>, pid: Option<&OsStr>) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let own = u64::from(std::process::id());
    if pid.is_some_and(|pid| number(pid) != Some(own)) {
        return None;
    }
    let micros = micros.and_then(number).filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros))
}

/// How long a manager may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// What the end takes besides: the last sync, the log.
const STOPPING_MARGIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@merpati-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        for (socket, address) in [
            (path.as_os_str(), SocketAddr::from_pathname(&path).unwrap()),
            (OsStr::new(&name), abstract_address),
        ] {
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            let notifier = Notifier::to(socket, None).unwrap();
            let heard = || {
                let mut octets = [0; 256];
                let count = manager.recv(&mut octets).unwrap();
                String::from_utf8(octets[..count].to_vec()).unwrap()
            };
            notifier.ready();
            assert_eq!(heard(), "READY=1");
            notifier.status("two\nlines");
            assert_eq!(heard(), "STATUS=two lines");
            notifier.stopping(Duration::from_secs(30));
            assert_eq!(heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000");
            notifier.reloading();
            let reloading = heard();
            let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0, "{reloading}");
        }
    }

    #[test]
    fn a_manager_that_is_gone_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let notifier = Notifier::to(folder.path().join("gone").as_os_str(), None).unwrap();
        notifier.ready();
        assert!(Notifier::to(OsStr::new("relative"), None).is_err());
        assert!(!Notifier::default().is_heard());
    }

    #[test]
    fn only_the_process_that_is_meant_is_watched() {
        let own = std::process::id().to_string();
        for (micros, pid, want) in [
            (None, None, None),
            (Some("3000000"), None, Some(Duration::from_secs(3))),
            (Some("3000000"), Some(own.as_str()), Some(Duration::from_secs(3))),
            (Some("3000000"), Some("1"), None),
            (Some("3000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ] {
            let found = watchdog(micros.map(OsStr::new), pid.map(OsStr::new));
            assert_eq!(found, want, "{micros:?} {pid:?}");
        }
    }
}
