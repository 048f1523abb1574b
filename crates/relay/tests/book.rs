//! Every block of commands on the pages of the book and in the README is run as it stands there,
//! against a relay that has what the text speaks of. The console blocks of `docs/tasks.md` have
//! `scripts/tasks.sh`, and commands of the project itself have `make check` and `.ci/run`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use common::{
    Relay, data_dir,
    internet::{Internet, client, jsonl, send, until},
};
use tempfile::TempDir;

/// Commands that `.ci/run` or `make check` runs by themselves, and that take minutes.
const RUN_ELSEWHERE: &[&str] = &["make ", "scripts/"];

/// Blocks of commands: of the shell's language, or indented lines that begin with a program.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let (mut fence, mut was_indented) = (None, false);
    for line in page.lines() {
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language) };
            blocks.push(String::new());
            continue;
        }
        let code = match fence {
            Some("sh" | "text") if blocks.last().is_some_and(|b| !b.is_empty()) => line,
            Some("sh") => line,
            Some("text") if is_command(line) => line,
            Some(_) => continue,
            None => match line.strip_prefix("    ") {
                Some(code) if was_indented || is_command(code) => code,
                _ => {
                    was_indented = false;
                    continue;
                }
            },
        };
        if fence.is_none() && !was_indented {
            was_indented = true;
            blocks.push(String::new());
        }
        let block = blocks.last_mut().unwrap();
        block.push_str(code);
        block.push('\n');
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

fn is_command(code: &str) -> bool {
    ["merpati ", "make ", "scripts/"].iter().any(|start| code.starts_with(start))
}

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(name)).unwrap()
}

/// The blocks of a page that are to be run here.
fn to_run(name: &str) -> Vec<String> {
    let is_elsewhere = |line: &str| RUN_ELSEWHERE.iter().any(|start| line.starts_with(start));
    let mut blocks = blocks(&page(name));
    blocks.retain(|block| !block.lines().all(is_elsewhere));
    blocks
}

/// A folder with `merpati` in the search path, as a person has it.
struct Desk {
    dir: TempDir,
    bin: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir_all(&bin).unwrap();
        symlink(env!("CARGO_BIN_EXE_merpati"), bin.join("merpati")).unwrap();
        Self { dir, bin }
    }

    /// Runs a block with these words replaced; each of its commands must succeed.
    #[track_caller]
    fn run(&self, block: &str, replaced: &[(&str, &str)], input: &str) -> String {
        let mut script = block.to_owned();
        for (from, to) in replaced {
            assert!(script.contains(from), "{from} is not in:\n{block}");
            script = script.replace(from, to);
        }
        // No name of this machine is looked up for it.
        let swaksrc = "helo client.example\nfrom a@example.org\n";
        fs::write(self.dir.path().join(".swaksrc"), swaksrc).unwrap();
        let stdin = self.dir.path().join("stdin");
        fs::write(&stdin, input).unwrap();
        let others = std::env::var("PATH").unwrap();
        let path = format!("{}:{others}", self.bin.display());
        let mut shell = Command::new("sh");
        shell.args(["-ec", &script]).current_dir(self.dir.path()).env_clear();
        shell.env("PATH", path).env("HOME", self.dir.path());
        shell.env("MERPATI_SOCKET", data_dir(&self.dir).join("control.sock"));
        shell.stdin(Stdio::from(fs::File::open(&stdin).unwrap()));
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}\n{complaint}");
        said
    }
}

/// Which pages have blocks to run, and that no other page has come to have one.
#[test]
fn each_page_with_commands_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut found: Vec<String> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !to_run(&format!("docs/{name}")).is_empty())
        .collect();
    found.sort();
    let pages = ["delivery.md", "moving-in.md", "spool.md", "submission.md", "trouble.md"];
    assert_eq!(found, pages);
}

#[test]
fn the_commands_for_the_queue_do_what_the_page_says() {
    let (net, desk) = (Internet::new(), Desk::new());
    let relay = net.relay(
        &desk.dir,
        &["route.backup.to=smtp://nowhere.example", "route.backup.recipient_domains=b.example"],
    );
    // No attempt at it ever ends in time to be in the way of the next command.
    net.set("example.org", &["SERVFAIL"]);
    let id = send(&mut client(&relay), "ani@a.example", &["budi@example.org"]);
    until("the first attempt", || {
        jsonl(&desk.dir, &["queue", "ls"]).pop().filter(|view| view["attempts"] == 1)
    });
    let [block] = &to_run("docs/delivery.md")[..] else { panic!("one block") };
    for line in block.lines() {
        let told = match line.split_whitespace().nth(2).unwrap() {
            "ls" if line.contains("age>1h") => "nothing is selected",
            "ls" | "show" => "budi@example.org",
            "retry" => "1 delivery of 1 message tried now",
            "hold" => "held 1 delivery of 1 message",
            "release" => "released 1 delivery of 1 message",
            "reroute" => "1 delivery of 1 message led by the route backup",
            "cancel" => "cancelled 1 delivery of 1 message",
            other => panic!("{other} is new: what does it say?"),
        };
        let is_free = || jsonl(&desk.dir, &["queue", "ls"])[0]["status"] != "attempting";
        until("the end of an attempt", || is_free().then_some(()));
        let replaced = [("028T5CY4TQKFF", &id[..])];
        let replaced = if line.contains("028T5CY4TQKFF") { &replaced[..] } else { &[] };
        let said = desk.run(line, replaced, "");
        assert!(said.contains(told), "{line}: {said}");
    }
    assert!(jsonl(&desk.dir, &["queue", "ls"]).is_empty(), "it was cancelled in the end");
}

#[test]
fn the_commands_for_moving_in_write_a_configuration_that_checks() {
    let desk = Desk::new();
    let postfix = desk.dir.path().join("postfix");
    fs::create_dir(&postfix).unwrap();
    let main = "myhostname = mx.example.org\nrelayhost = [smtp.example.net]:587\n\
                inet_interfaces = loopback-only\nmynetworks = 127.0.0.0/8\n";
    fs::write(postfix.join("main.cf"), main).unwrap();
    fs::write(postfix.join("master.cf"), "smtp inet n - y - - smtpd\n").unwrap();
    let [block] = &to_run("docs/moving-in.md")[..] else { panic!("one block") };
    desk.run(block, &[("/etc/postfix", postfix.to_str().unwrap())], "");
    let written = fs::read_to_string(desk.dir.path().join("merpati.toml")).unwrap();
    assert!(written.contains("smtp.example.net"), "{written}");
}

#[test]
fn the_commands_for_moving_mail_take_it_to_another_spool() {
    let (net, desk) = (Internet::new(), Desk::new());
    let relay = net.relay(&desk.dir, &["route.backup.to=smtp://nowhere.example"]);
    let id = send(&mut client(&relay), "ani@a.example", &["budi@example.org"]);
    assert!(relay.stop().success());
    let there = desk.dir.path().join("there.toml");
    let data = |dir: &Path| format!("[server]\ndata_dir = \"{}\"\n", dir.display());
    fs::write(&there, data(&desk.dir.path().join("there"))).unwrap();
    fs::write(desk.dir.path().join("here.toml"), data(&data_dir(&desk.dir))).unwrap();
    let blocks = to_run("docs/spool.md");
    let [block] = &blocks[..] else { panic!("one block: {blocks:?}") };
    let (here, there) = ("MERPATI_CONFIG=here.toml merpati", "MERPATI_CONFIG=there.toml merpati");
    let lines: Vec<&str> = block.lines().collect();
    let [export, import] = lines[..] else { panic!("two commands: {block}") };
    let said = desk.run(export, &[("merpati", here)], "");
    assert!(said.contains("1 message"), "{said}");
    let said = desk.run(import, &[("merpati", there)], "");
    assert!(said.contains("1 message"), "{said}");
    let exported = fs::read_dir(desk.dir.path().join("out")).unwrap();
    let names: Vec<_> = exported.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().contains(&id)), "{names:?}");
}

#[test]
fn the_command_for_passwords_prints_the_line() {
    let desk = Desk::new();
    let [block] = &to_run("docs/submission.md")[..] else { panic!("one block") };
    let said = desk.run(block, &[], "a long password of somebody\n");
    assert!(said.contains("$argon2id$"), "{said}");
}

#[test]
fn the_command_for_programs_makes_a_sendmail() {
    let desk = Desk::new();
    let [block] = &to_run("docs/trouble.md")[..] else { panic!("one block") };
    let (program, place) = (desk.bin.join("merpati"), desk.bin.join("sendmail"));
    let places = [program.to_str().unwrap(), place.to_str().unwrap()];
    desk.run(block, &[("/usr/bin/merpati", places[0]), ("/usr/sbin/sendmail", places[1])], "");
    let said = desk.run("sendmail --help 2>&1 || true", &[], "");
    assert!(said.contains("sendmail"), "{said}");
}

#[test]
fn the_commands_of_the_readme_send_and_find_a_mail() {
    let desk = Desk::new();
    let relay = Relay::start(&data_dir(&desk.dir), &[]);
    let (smtp, http) = (relay.address("sandbox"), relay.address("http"));
    let (smtp, port) = (smtp.to_string(), smtp.port().to_string());
    let ports = [
        ("127.0.0.1:1025", &smtp[..]),
        ("\"127.0.0.1\", 1025", &format!("\"127.0.0.1\", {port}")),
        ("target/release/merpati", "merpati"),
        ("127.0.0.1:8025", &http.to_string()),
    ];
    let blocks = to_run("README.md");
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    for block in &blocks {
        let here: Vec<(&str, &str)> =
            ports.iter().copied().filter(|(from, _)| block.contains(from)).collect();
        let said = desk.run(block, &here, "");
        assert!(said.contains("ani@example.org"), "{said}");
    }
}
