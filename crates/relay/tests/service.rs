//! The relay under a service manager: what it is told, and sockets that it passes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

mod common;

use std::{os::unix::net::UnixDatagram, path::Path, process::Command, time::Instant};

use common::{PATIENCE, Relay, Smtp, data_dir, internet::merpati};

/// Starts the relay as a service manager does: sets these variables, opens a socket at each of
/// these addresses and passes it under this name; writes down where they are.
const LAUNCHER: &str = "
import os, socket, sys
folder, variables, *rest = sys.argv[1:]
passed = rest[:rest.index('--')]
command = rest[rest.index('--') + 1:]
sockets = []
for name in passed:
    one = socket.create_server(('127.0.0.1', 0))
    sockets.append((name, one))
with open(os.path.join(folder, 'passed'), 'w') as out:
    for name, one in sockets:
        print('127.0.0.1:%d' % one.getsockname()[1], file=out)
# Out of the way of the numbers that they will have.
high = [os.dup2(one.fileno(), 100 + n) for n, (_, one) in enumerate(sockets)]
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n, inheritable=True)
    os.close(fd)
os.environ.update(word.split('=', 1) for word in variables.split())
if sockets:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)),
                      LISTEN_FDNAMES=':'.join(name for name, _ in sockets))
os.execv(command[0], command)
";

fn launcher(folder: &Path, variables: &str, passed: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", LAUNCHER]).arg(folder).arg(variables).args(passed);
    command.args(["--", env!("CARGO_BIN_EXE_merpati")]);
    command
}

#[test]
fn a_service_manager_learns_when_the_relay_listens_that_it_is_alive_and_when_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = |wanted: &str| {
        let began = Instant::now();
        let mut octets = [0; 512];
        while began.elapsed() < PATIENCE {
            let count = manager.recv(&mut octets).unwrap();
            let text = String::from_utf8_lossy(&octets[..count]).into_owned();
            if text.starts_with(wanted) {
                return text;
            }
        }
        panic!("{wanted} is not told");
    };
    let variables = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=1000000", path.display());
    let command = launcher(dir.path(), &variables, &[]);
    let relay = Relay::try_start_as(command, &data_dir(&dir), &[]).unwrap();
    hear("READY=1");
    relay.smtp().say("NOOP", "250");
    hear("STATUS=Takes mail");
    let began = Instant::now();
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    assert!(began.elapsed().as_millis() < 3_000, "each half of a second");
    relay.signal("TERM");
    // The wait of 30 s that is configured, and as much again.
    assert_eq!(hear("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000");
    assert!(relay.wait().success());
}

#[test]
fn sockets_that_are_passed_are_used_in_place_of_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let command = launcher(dir.path(), "", &["sandbox", "http"]);
    let relay = Relay::try_start_as(command, &data_dir(&dir), &[]).unwrap();
    let passed = std::fs::read_to_string(dir.path().join("passed")).unwrap();
    let passed: Vec<&str> = passed.lines().collect();
    let used = ["sandbox", "http"].map(|name| relay.address(name).to_string());
    assert_eq!(used.as_slice(), passed);
    let mut smtp = Smtp::connect(relay.address("sandbox"));
    smtp.say("EHLO client.example", "250");
    let id = smtp.deliver(b"Subject: x\r\n\r\n");
    assert!(relay.raw(&id).is_some());
    assert!(relay.stop().success());
}

#[test]
fn a_socket_that_nobody_asks_for_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let command = launcher(dir.path(), "", &["sandbox", "elsewhere"]);
    let (status, text) = Relay::try_start_as(command, &data_dir(&dir), &[]).err().unwrap();
    assert!(!status.success());
    let passed = std::fs::read_to_string(dir.path().join("passed")).unwrap();
    let address = passed.lines().last().unwrap();
    let why = format!("a socket at {address} (`elsewhere`), and no listener asks for it");
    assert!(text.contains(&why), "{text}");
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let command = launcher(dir.path(), "LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=sandbox", &[]);
    let relay = Relay::try_start_as(command, &data_dir(&dir), &[]).unwrap();
    relay.smtp().say("NOOP", "250");
}

#[test]
fn a_confined_relay_writes_where_it_may_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let below = |name: &str| dir.path().join(name).display().to_string();
    let writable = format!("server.writable={}", below("inside"));
    let settings = ["server.confine=true", &writable];
    let (status, text) = Relay::try_start(&data_dir(&dir), &settings).err().unwrap();
    assert!(!status.success());
    for part in ["server.writable: cannot allow writing there", "help: make the directory"] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    for name in ["inside", "outside"] {
        std::fs::create_dir(below(name)).unwrap();
    }
    let relay = Relay::start(&data_dir(&dir), &settings);
    let mut smtp = relay.smtp();
    smtp.say("EHLO client.example", "250");
    smtp.deliver(b"Subject: x\r\n\r\n");
    let back_up = |name: &str| merpati(&dir, &["spool", "backup", &below(name)]);
    let done = back_up("inside/copy");
    assert!(done.status.success(), "{done:?}");
    let refused = back_up("outside/copy");
    smtp.deliver(b"Subject: y\r\n\r\n");
    let is_empty = std::fs::read_dir(below("outside")).unwrap().count() == 0;
    relay.signal("TERM");
    let (ended, told) = relay.wait_with_errors();
    assert!(ended.success(), "{told}");
    // Without Landlock in the kernel there is a wall less, and the operator hears it.
    if !told.contains("this kernel cannot hold the relay") {
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("Permission denied") && is_empty, "{text}");
    }
}
