//! Mistakes as they are shown, and which source wins.

use super::*;

fn file(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(text: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Config, String> {
    let texts = if text.is_empty() { vec![] } else { vec![file("merpati.toml", text)] };
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    Config::of(texts, &environment(variables), &arguments).map_err(|errors| errors.to_string())
}

/// `mistakes.txt` holds invented files and what is said about them. To write what is said today:
/// `MISTAKES=write cargo test -p merpati-relay mistakes`, and read the difference.
#[test]
fn mistakes_are_shown_with_their_place_and_help() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/mistakes.txt");
    let golden = include_str!("mistakes.txt");
    let mut today = String::new();
    for case in golden.split("=== ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, _) = rest.split_once("---\n").unwrap();
        let shown = read(text, &[], &[]).err().unwrap_or_else(|| "no mistakes".to_owned());
        let shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
        today.extend(["=== ", name, "\n", text, "---\n", &shown.join("\n"), "\n"]);
    }
    if std::env::var("MISTAKES").is_ok_and(|wish| wish == "write") {
        std::fs::write(path, &today).unwrap();
    } else {
        assert_eq!(today, golden);
    }
}

#[test]
fn a_collector_is_a_url_where_the_build_knows_of_it() {
    let set = |text: &str| read("", &[], &[&format!("telemetry.traces_to={text}")]);
    let wrong = |text: &str| set(text).err().unwrap();
    if cfg!(feature = "opentelemetry") {
        let url = "http://127.0.0.1:4318/v1/traces";
        assert_eq!(set(url).unwrap().telemetry.traces_to.unwrap().as_str(), url);
        for text in
            ["https://a.example/v1/traces", "127.0.0.1:4318", "http://", "http://a.example:4318"]
        {
            let said = wrong(text);
            assert!(said.contains("is not the URL of a collector"), "{said}");
        }
    } else {
        let said = wrong("http://127.0.0.1:4318/v1/traces");
        assert!(said.contains("cargo build --features opentelemetry"), "{said}");
    }
    assert_eq!(set("off").unwrap().telemetry.traces_to, None);
}

#[test]
fn without_any_configuration_there_is_a_sandbox_on_loopback() {
    let config = read("", &[("HOME", "/users/ani")], &[]).unwrap();
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!(listener.kind, Kind::Sandbox);
    assert_eq!(listener.listen, ["127.0.0.1:1025".parse().unwrap()]);
    assert_eq!(config.server.http_listen, ["127.0.0.1:8025".parse().unwrap()]);
    let data = Path::new("/users/ani/.local/share/merpati");
    assert_eq!(config.server.data_dir, data);
    assert_eq!(config.server.control_socket, data.join("control.sock"));
    assert!(config.effective.iter().all(|option| option.source.is_none()));
}

#[test]
fn the_data_directory_is_where_the_environment_says() {
    for (variables, want) in [
        (&[("MERPATI_DATA", "var"), ("HOME", "/users/ani")][..], "var"),
        (&[("XDG_DATA_HOME", "/data"), ("HOME", "/users/ani")], "/data/merpati"),
        (&[("HOME", "/users/ani")], "/users/ani/.local/share/merpati"),
        (&[("USER", "root"), ("HOME", "/users/ani")], "/var/lib/merpati"),
        (&[("MERPATI_DATA", "")], "/var/lib/merpati"),
    ] {
        assert_eq!(data_dir(&environment(variables)), Path::new(want), "{variables:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_files() {
    let text = "[server]\nhostname = \"file\"\ndrain_wait = \"1 s\"\n[log]\nto = \"off\"\n";
    let variables = [("MERPATI_SERVER__HOSTNAME", "env"), ("MERPATI_SERVER__DRAIN_WAIT", "2 s")];
    let config = read(text, &variables, &["server.hostname=arg"]).unwrap();
    let shown = reference::show(&config.effective, true);
    assert_eq!(
        shown,
        "server.hostname = \"arg\"  # command line server.hostname\n\
         server.drain_wait = \"2 s\"  # environment MERPATI_SERVER__DRAIN_WAIT\n\
         log.to = \"off\"  # merpati.toml:5:6\n"
    );
}

#[test]
fn a_named_table_can_be_changed_or_made_from_outside() {
    let arguments = ["listener.mx.kind=rehearsal", "listener.mx.listen=127.0.0.1:0,[::1]:0"];
    let config = read("", &[], &arguments).unwrap();
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!((listener.name.as_str(), listener.listen.len()), ("mx", 2));
    let config = read("", &[("MERPATI_LISTENER__SANDBOX__LISTEN", "127.0.0.1:0")], &[]).unwrap();
    assert_eq!(config.listeners[0].listen, ["127.0.0.1:0".parse().unwrap()]);
}

#[test]
fn mistakes_from_outside_name_their_variable_or_argument() {
    let said = read("", &[("MERPATI_SERVER__HOSTNAM", "x")], &["log.to=maybe"]).unwrap_err();
    for part in [
        "environment:1:1",
        "MERPATI_SERVER__HOSTNAM=x",
        "did you mean `hostname`?",
        "command line:1:8",
        "2 mistakes",
    ] {
        assert!(said.contains(part), "{said}\nlacks {part}");
    }
    for argument in ["hostname=x", "server=x", "listener.kind=rehearsal", "=", ""] {
        assert!(read("", &[], &[argument]).is_err(), "{argument}");
    }
}

#[test]
fn what_one_file_sets_another_cannot_set_again() {
    let texts = vec![
        file("a.toml", "[server]\nhostname = \"a\"\n"),
        file("b.toml", "[server]\nhostname = \"b\"\ndrain_wait = \"1 s\"\n"),
    ];
    let said = Config::of(texts, &BTreeMap::new(), &[]).unwrap_err().to_string();
    for part in ["`server.hostname` is set twice", "b.toml:2:1", "a.toml:2", "first set here"] {
        assert!(said.contains(part), "{said}\nlacks {part}");
    }
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("b.toml", "b"), ("a.toml", "a"), ("c.txt", "c")] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let texts: Vec<String> =
        files(directory.path()).unwrap().into_iter().map(|source| source.text).collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn files_that_cannot_be_read_say_so_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("latin.toml"), b"[server]\nhostname = \"m\xfcnchen.example\"\n").unwrap();
    std::fs::create_dir(path("none")).unwrap();
    for (name, parts) in [
        ("missing.toml", &["missing.toml: No such file", "= help: write it, or leave"][..]),
        ("none", &["there is no *.toml in ", "= help: write what the relay is for"]),
        ("latin.toml", &["latin.toml:2:14", "not UTF-8", "= help: save the file as UTF-8"]),
    ] {
        let said = files(&path(name)).unwrap_err().to_string();
        for part in parts.iter().chain(&["1 mistake in the configuration"]) {
            assert!(said.contains(part), "{said}\nlacks {part}");
        }
    }
}

/// One wrong value of each kind for every option: each is told, with its line.
#[test]
fn no_option_takes_what_it_cannot_mean() {
    let kinds = ["1.5", "1979-05-27", "{ a = 1 }", "[[1]]", "123456789012345678901234567890"];
    let numbers = ["-1", "\"\"", "\"99999999999999999999 d\"", "\"99999999999999999999 GiB\""];
    for section in options::SECTIONS {
        for option in section.options {
            let is_number = ["a whole number", "a port", "a size", "a duration"]
                .iter()
                .any(|form| option.form.starts_with(form));
            let more = numbers.iter().filter(|_| is_number);
            for value in kinds.iter().chain(more) {
                let (head, name) = match section.repeats {
                    section::Repeats::Once => (format!("[{}]", section.name), ""),
                    section::Repeats::Named if option.name == "name" => {
                        (format!("[[{}]]", section.name), "")
                    }
                    section::Repeats::Named => (format!("[[{}]]", section.name), "name = \"a\""),
                };
                let text = format!("{head}\n{name}\n{} = {value}\n", option.name);
                let said = read(&text, &[], &[]).map(drop).unwrap_err();
                assert!(said.contains("merpati.toml:3:"), "{text}\n{said}");
            }
        }
    }
}

#[test]
fn every_default_is_a_value_of_its_option_and_is_read_back() {
    let config = read("", &[], &[]).unwrap();
    let settings: Vec<String> = config
        .effective
        .iter()
        .map(|option| format!("{}={}", option.key, option.value.replace(['"', '[', ']'], "")))
        .filter(|setting| !setting.starts_with("listener.sandbox.name"))
        .collect();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let again = read("", &[], &settings).unwrap();
    let values = |config: &Config| -> Vec<(String, String)> {
        config.effective.iter().map(|o| (o.key.clone(), o.value.clone())).collect()
    };
    assert_eq!(values(&again), values(&config));
}

#[test]
fn the_reference_page_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/configuration.md");
    if std::env::var("MISTAKES").is_ok_and(|wish| wish == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, reference::reference()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), reference::reference());
}

#[test]
fn an_option_explains_itself() {
    for (key, part) in [
        ("server.hostname", "Default: `localhost`."),
        ("listener.mx.kind", "Value: \"relay\", \"submission\", \"sandbox\" or \"rehearsal\"."),
        ("log", "log.to"),
    ] {
        assert!(reference::explain(key).unwrap().contains(part), "{key}");
    }
    for (key, part) in [
        ("server.hostnam", "did you mean `server.hostname`?"),
        ("keep_age_max", "`sandbox.keep_age_max`"),
    ] {
        assert!(reference::explain(key).unwrap_err().contains(part), "{key}");
    }
}

#[test]
fn the_examples_are_without_mistakes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for entry in root.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "toml") {
            let config = Config::of(files(&path).unwrap(), &BTreeMap::new(), &[]);
            assert!(config.is_ok(), "{}: {}", path.display(), config.unwrap_err());
            count += 1;
        }
    }
    assert!(count >= 4, "{count}");
}

/// A relay with every option of a route somewhere.
const ROUTES: &str = r#"
[server]
hostname = "mail.ours.example"
[[listener]]
name = "mx"
kind = "relay"
listen = "127.0.0.1:25"
[relay]
local_domains = ["ours.example"]
[[credential]]
name = "shop"
password = "HASH"
[[credential]]
name = "fax"
password = "HASH"
senders = ["fax@ours.example", "*"]
[[route]]
name = "gone"
recipient_domains = ["old.ours.example"]
to = "refuse nobody lives here any more"
[[route]]
name = "local"
recipients = "local"
to = "lmtp:/run/dovecot/lmtp"
connections_max = 4
[[route]]
name = "smart"
credential = "shop"
sender_below = "shop.example"
recipient_below = "big.example"
to = ["smtp://a.example:587", "smtp://192.0.2.1"]
egress = "bulk"
user = "us"
password = "hunter2"
[[route]]
name = "wrapped"
recipient_domains = ["wrapped.example"]
to = "smtps://c.example"
[[route]]
name = "world"
to = "mx"
[[egress]]
name = "bulk"
addresses = ["192.0.2.7", "2001:db8::7"]
hello = "out7.ours.example"
[retry]
first_wait = "2 s"
"#;

fn routes() -> Config {
    let credential = crate::credential::hash("open sesame").unwrap();
    read(&ROUTES.replace("HASH", &credential), &[], &[]).unwrap()
}

#[test]
fn routes_become_rules_in_the_order_of_the_file() {
    use merpati_flow::route::Facts;
    use merpati_mail::{Mailbox, ReversePath};

    let config = routes();
    let router = config.router();
    for (recipient, sender, credential, want) in [
        ("ours.example", "", None, "local"),
        ("mail.ours.example", "", None, "local"),
        ("old.ours.example", "a@b.example", None, "gone"),
        ("mx.big.example", "a@mail.shop.example", Some("shop"), "smart"),
        ("mx.big.example", "a@mail.shop.example", Some("fax"), "world"),
        ("mx.big.example", "", Some("shop"), "world"),
        ("other.example", "a@shop.example", Some("shop"), "world"),
        ("wrapped.example", "a@b.example", None, "wrapped"),
    ] {
        let recipient = Domain::parse(recipient).unwrap();
        let reverse_path = ReversePath(Mailbox::parse(sender).ok());
        let facts = Facts { recipient: &recipient, reverse_path: &reverse_path, credential };
        let route = router.route(&facts).unwrap();
        assert_eq!(&*route.rule, want, "{facts:?}");
    }
    let attempts: Vec<Option<usize>> = router.rules.iter().map(|rule| rule.attempts_max).collect();
    assert_eq!(attempts, [None, Some(4), None, None, None]);
}

#[test]
fn what_a_route_leaves_open_follows_from_its_next_hop() {
    let config = routes();
    let shown: Vec<(RouteTls, bool, String)> = config
        .routes
        .iter()
        .map(|route| (route.tls, route.tls_verify, config.egress(route).hello.to_string()))
        .collect();
    let ours = || "mail.ours.example".to_owned();
    assert_eq!(
        shown,
        [
            (RouteTls::Never, false, ours()),
            (RouteTls::Never, false, ours()),
            (RouteTls::Required, true, "out7.ours.example".to_owned()),
            (RouteTls::Required, true, ours()),
            (RouteTls::Opportunistic, false, ours()),
        ]
    );
    let world = config.egress(config.routes.last().unwrap());
    assert_eq!((world.name.as_str(), world.addresses.len()), ("default", 0));
    assert_eq!(config.retry.plan().first, std::time::Duration::from_secs(2));
    assert_eq!(config.delivery.timeouts(), merpati_smtp::client::Timeouts::default());
}

#[test]
fn a_password_is_for_its_next_hop_alone() {
    let config = routes();
    let login = config.routes[2].login().unwrap().unwrap();
    assert_eq!((login.user.as_str(), login.password.expose()), ("us", "hunter2"));
    assert!(!login.may_be_clear);
    assert_eq!(config.routes[4].login().unwrap(), None);
    let shown = reference::show(&config.effective, false);
    assert!(shown.contains("route.smart.password = \"***\""), "{shown}");
    for text in [shown, format!("{config:?}"), format!("{login:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_credential_sends_as_our_domains_unless_it_says_otherwise() {
    let senders = routes().senders();
    let may = |credential: &str, sender: &str| {
        senders[credential].permit(&merpati_mail::Mailbox::parse(sender).unwrap())
    };
    assert!(may("shop", "any.body@ours.example"));
    assert!(!may("shop", "any.body@other.example"));
    assert!(may("fax", "any.body@other.example"));
}

#[test]
fn a_submission_listener_wants_auth_under_tls_unless_told_otherwise() {
    let rest = "[[route]]\nname = \"world\"\nto = \"mx\"\n";
    let listen = |more: &str| {
        let text = "[[listener]]\nname = \"s\"\nlisten = \"127.0.0.1:0\"\n";
        let config = read(&format!("{text}{more}\n{rest}"), &[], &[]);
        config.map(|config| config.listeners[0].auth)
    };
    let tls = "tls = \"starttls\"\ntls_certificate = \"c.pem\"\ntls_key = \"k.pem\"";
    let submission = "kind = \"submission\"\n";
    assert_eq!(listen(&format!("{submission}{tls}")), Ok(AuthUse::TlsOnly));
    let clear = "auth = \"allow-clear\"";
    assert_eq!(listen(&format!("{submission}{clear}")), Ok(AuthUse::AllowClear));
    assert_eq!(listen("kind = \"relay\""), Ok(AuthUse::Off));
}
