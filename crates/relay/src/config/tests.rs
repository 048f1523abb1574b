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
    assert!(files(&directory.path().join("missing.toml")).is_err());
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
        ("listener.mx.kind", "Value: \"rehearsal\" or \"sandbox\"."),
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
    for name in ["rehearsal.toml", "sandbox.toml"] {
        let sources = files(&root.join(name)).unwrap();
        let config = Config::of(sources, &BTreeMap::new(), &[]);
        assert!(config.is_ok(), "{name}: {}", config.unwrap_err());
    }
}
