//! Programs that send by a command: `sendmail`, `mailq` and `newaliases`, by those names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    io::Write,
    os::unix::{fs::symlink, process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
};

use common::{Relay, data_dir};

/// Calls the program by this name, with this on standard input.
fn call(name: &str, arguments: &[&str], text: &str, (server, data): (&str, &Path)) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merpati"));
    command.arg0(format!("/usr/sbin/{name}")).args(arguments).env_clear();
    command.env("MERPATI_SENDMAIL_SERVER", server).env("LOGNAME", "ani").env("MERPATI_DATA", data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

const MESSAGE: &str = "To: Budi <budi@b.example>\nBcc: citra@c.example\nSubject: report\n\n\
                       All is well.\n.\nnot this\n";

#[test]
fn a_program_sends_as_it_always_did() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    let relay = Relay::start(&data, &[]);
    let server = relay.address("sandbox").to_string();
    let place = (server.as_str(), data.as_path());
    let output = call("sendmail", &["-t", "-f", "cron@a.example"], MESSAGE, place);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let listed = relay.get_json("/v1/sandbox/messages");
    let message = &listed["data"][0];
    assert_eq!(message["envelope_from"], "cron@a.example");
    assert_eq!(message["envelope_to"], serde_json::json!(["budi@b.example", "citra@c.example"]));
    assert_eq!(message["subject"], "report");
    let raw = relay.raw(message["id"].as_str().unwrap()).unwrap();
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.ends_with("\r\n\r\nAll is well.\r\n"), "{raw}");
    assert!(raw.contains("From: <cron@a.example>\r\n") && !raw.contains("Bcc"), "{raw}");
    // The other names, and SMTP on standard input.
    assert_eq!(said(&call("mailq", &[], "", place)), "nothing waits\n");
    assert_eq!(call("newaliases", &[], "", place).status.code(), Some(0));
    let talk = call("sendmail", &["-bs"], "EHLO x\r\nQUIT\r\n", place);
    assert!(said(&talk).starts_with("220 ") && said(&talk).contains("221 "), "{}", said(&talk));
    // What it cannot do it says with the codes that programs know.
    assert_eq!(call("sendmail", &["-f"], "", place).status.code(), Some(64));
    assert_eq!(call("sendmail", &["-i"], "x", place).status.code(), Some(64));
}

#[test]
fn what_is_sent_without_a_relay_is_collected_when_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = data_dir(&dir);
    let drop = data.join("drop");
    fs::create_dir_all(&drop).unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = nobody.to_string();
    let output = call("sendmail", &["-t"], MESSAGE, (&server, &data));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fs::read_dir(&drop).unwrap().count(), 1);
    // What cannot be mail, and what was left in the middle, hold up nothing.
    fs::write(drop.join("1.1.mail"), "QUIT\r\n").unwrap();
    symlink("/etc/hostname", drop.join("1.2.mail")).unwrap();
    let left = fs::read_dir(&drop).unwrap().map(|entry| entry.unwrap().path());
    let left = left.max().unwrap();
    fs::rename(&left, left.with_extension("taken")).unwrap();
    let relay = Relay::start(&data, &[]);
    let captured = relay.wait_for(|line| line["event"] == "Captured").unwrap();
    assert_eq!(captured["to"], serde_json::json!(["budi@b.example", "citra@c.example"]));
    common::internet::until("the file goes", || {
        let names = fs::read_dir(&drop).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        (names == ["1.1.refused", "1.2.refused"]).then_some(())
    });
    // Where it cannot be left, the program keeps it; nobody makes a directory that no relay reads.
    let nowhere = dir.path().join("file");
    fs::write(&nowhere, "").unwrap();
    symlink(&nowhere, dir.path().join("link")).unwrap();
    let output = call("sendmail", &["-t"], MESSAGE, (&server, &dir.path().join("link")));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
}
