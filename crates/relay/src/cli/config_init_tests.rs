//! What `config init` writes for which answers.

use std::fs;

use super::{super::config_commands, *};

fn arguments(role: Role, file: &Path) -> InitArguments {
    InitArguments {
        role: Some(role),
        file: file.to_owned(),
        hostname: Some("mx.ours.example".to_owned()),
        domains: Some("ours.example, shop.example".to_owned()),
        deliver_to: Some("lmtp://store.ours.example:24".to_owned()),
        smart_host: Some("smtp://smtp.provider.example:587".to_owned()),
        user: Some("ours".to_owned()),
        password_file: Some("/etc/merpati/password".to_owned()),
        networks: Some("192.0.2.0/24,2001:db8::7".to_owned()),
    }
}

fn quiet() -> Output {
    Output::into(Box::new(io::sink()))
}

#[test]
fn what_is_written_holds_the_answers_and_has_no_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    for (role, name, changed) in [
        (
            Role::Relay,
            "relay.toml",
            &[
                "relay.local_domains = [\"ours.example\", \"shop.example\"]",
                "relay.networks = [\"192.0.2.0/24\", \"2001:db8::7/128\"]",
                "route.local.to = \"lmtp://store.ours.example:24\"",
                "route.world.to = \"mx\"",
            ][..],
        ),
        (
            Role::SmartHost,
            "smart-host.toml",
            &[
                "server.hostname = \"mx.ours.example\"",
                "route.smart-host.to = \"smtp://smtp.provider.example:587\"",
                "route.smart-host.user = \"ours\"",
                "route.smart-host.password_file = \"/etc/merpati/password\"",
            ],
        ),
        (Role::Sandbox, "sandbox.toml", &["listener.sandbox.kind = \"sandbox\""]),
    ] {
        let file = folder.path().join(name);
        run(&arguments(role, &file), &mut quiet()).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let source = Source { name: name.to_owned(), text };
        let config = Config::of(vec![source], &BTreeMap::new(), &[]).unwrap();
        let shown = crate::config::reference::show(&config.effective, true);
        for part in changed {
            assert!(shown.contains(part), "{shown}\nlacks {part}");
        }
    }
}

#[test]
fn a_file_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("merpati.toml");
    fs::write(&file, "mine").unwrap();
    let refused = run(&arguments(Role::Sandbox, &file), &mut quiet()).unwrap_err();
    assert!(refused.to_string().contains("is there already"), "{refused}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn where_nobody_can_be_asked_what_is_missing_or_wrong_is_named_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("merpati.toml");
    let good = || arguments(Role::Relay, &file);
    for (arguments, part) in [
        (InitArguments { role: None, ..good() }, "relay, sandbox or smart-host"),
        (InitArguments { hostname: None, ..good() }, "--hostname is missing: a domain name"),
        (InitArguments { domains: None, ..good() }, "--domains is missing"),
        (
            InitArguments { domains: Some("ours example".to_owned()), ..good() },
            "--domains: `ours example` is not a domain\nhelp: ",
        ),
        (
            InitArguments { networks: Some("0.0.0.0/0".to_owned()), ..good() },
            "holds the networks of strangers",
        ),
        (
            InitArguments { deliver_to: Some("dovecot".to_owned()), ..good() },
            "--deliver-to: `dovecot` is no next hop",
        ),
    ] {
        let refused = run(&arguments, &mut quiet()).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}\nlacks {part}");
        assert!(!file.exists());
    }
    let some = InitArguments { deliver_to: None, networks: None, ..good() };
    run(&some, &mut quiet()).unwrap();
    let from = super::super::ConfigArguments { config: Some(file), settings: Vec::new() };
    let config = config_commands::load(&from).unwrap();
    assert_eq!(config.relay.networks.len(), 2, "those of the machine itself");
}
