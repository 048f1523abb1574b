//! Zones of test suites, and where the suites are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::IpAddr,
    path::PathBuf,
};

use merpati_auth::dns::{Answer, Known, Missing, Question};
use yaml_rust2::{Yaml, YamlLoader};

/// Where a file of the shared folder is; `None`, and it is said, where there is no such folder.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if !folder.is_dir() {
        let required = std::env::var_os("MERPATI_REQUIRE_SHARED").is_some();
        assert!(!required, "there is no ../shared");
        println!("skipped: no ../shared");
        return None;
    }
    Some(folder.join(path))
}

/// The documents of a file in YAML.
pub(crate) fn documents(path: &std::path::Path) -> Vec<Yaml> {
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        if line == "---" {
            seen.clear();
        }
        // The suite of ARC has two tests of one name.
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'));
        let is_name = |name: &&str| !name.starts_with(' ') && !seen.insert(name.to_string());
        match name.filter(is_name) {
            Some(name) => writeln!(text, "  {name}_again:").unwrap(),
            None => writeln!(text, "{line}").unwrap(),
        }
    }
    YamlLoader::load_from_str(&text).unwrap()
}

pub(crate) fn text(value: &Yaml) -> String {
    match value {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        other => panic!("no text: {other:?}"),
    }
}

pub(crate) fn texts(value: &Yaml) -> Vec<String> {
    match value {
        Yaml::Array(list) => list.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

/// What the DNS of a suite holds, by name in lower case.
#[derive(Debug, Default)]
pub(crate) struct Zones(BTreeMap<String, Zone>);

#[derive(Debug, Default)]
struct Zone {
    /// Kind and value, in the order of the suite.
    records: Vec<(String, Yaml)>,
    /// What is not there does not answer.
    is_silent: bool,
}

impl Zones {
    /// As the suite of SPF writes them: a list of records for each name. Records of the old type
    /// SPF stand for TXT, unless there is a TXT.
    pub(crate) fn of(data: &Yaml) -> Self {
        let mut zones = Self::default();
        for (name, records) in data.as_hash().unwrap() {
            let zone = zones.0.entry(text(name).trim_end_matches('.').to_lowercase()).or_default();
            let mut old = Vec::new();
            for record in records.as_vec().unwrap() {
                match record {
                    Yaml::String(word) if word == "TIMEOUT" => zone.is_silent = true,
                    record => {
                        let (kind, value) = record.as_hash().unwrap().iter().next().unwrap();
                        match text(kind).as_str() {
                            "SPF" => old.push(value.clone()),
                            kind => zone.records.push((kind.to_owned(), value.clone())),
                        }
                    }
                }
            }
            if !zone.records.iter().any(|(kind, _)| kind == "TXT") {
                zone.records.extend(old.into_iter().map(|value| ("TXT".to_owned(), value)));
            }
        }
        zones
    }

    /// As the suite of ARC writes them: a text for each name.
    pub(crate) fn of_texts(data: &Yaml) -> Self {
        let mut zones = Self::default();
        for (name, value) in data.as_hash().unwrap() {
            let zone = zones.0.entry(text(name).trim_end_matches('.').to_lowercase()).or_default();
            zone.records.push(("TXT".to_owned(), value.clone()));
        }
        zones
    }

    /// A text for each name.
    pub(crate) fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut zones = Self::default();
        for (name, text) in pairs {
            let zone = zones.0.entry(name.trim_end_matches('.').to_lowercase()).or_default();
            zone.records.push(("TXT".to_owned(), Yaml::String(text.to_owned())));
        }
        zones
    }

    /// Makes a check again and again until it misses nothing.
    pub(crate) fn answer<T>(&self, check: impl Fn(&Known) -> Result<T, Missing>) -> T {
        let mut known = Known::default();
        for _ in 0..100 {
            match check(&known) {
                Ok(found) => return found,
                Err(missing) => {
                    for question in missing.into_questions() {
                        let answer = self.look(&question);
                        known.tell(question, answer);
                    }
                }
            }
        }
        panic!("the check never ends");
    }

    fn look(&self, question: &Question) -> Answer {
        let (name, kind) = match question {
            Question::A(name) => (name.clone(), "A"),
            Question::Aaaa(name) => (name.clone(), "AAAA"),
            Question::Mx(name) => (name.clone(), "MX"),
            Question::Ptr(address) => (reverse(*address), "PTR"),
            Question::Txt(name) => (name.clone(), "TXT"),
        };
        let mut name = name;
        for _ in 0..8 {
            let Some(zone) = self.0.get(&name) else { return Answer::NoName };
            let values = |kind: &str| {
                let of_kind = zone.records.iter().filter(move |(it, _)| it == kind);
                of_kind.map(|(_, value)| value.clone()).collect::<Vec<_>>()
            };
            if let Some(alias) = values("CNAME").first() {
                name = text(alias).trim_end_matches('.').to_lowercase();
                continue;
            }
            // A TXT of NONE says only that no SPF stands for it.
            let found = values(kind);
            let found: Vec<_> =
                found.into_iter().filter(|v| *v != Yaml::String("NONE".to_owned())).collect();
            if found.is_empty() && zone.is_silent {
                return Answer::Unknown;
            }
            return answer(kind, &found);
        }
        Answer::Unknown
    }
}

fn answer(kind: &str, values: &[Yaml]) -> Answer {
    if values.is_empty() {
        return Answer::Nothing;
    }
    match kind {
        "A" | "AAAA" => {
            Answer::Addresses(values.iter().map(|v| text(v).parse().unwrap()).collect())
        }
        "MX" => Answer::Exchanges(
            values.iter().map(|pair| (text(&pair[0]).parse().unwrap(), text(&pair[1]))).collect(),
        ),
        "PTR" => Answer::Names(values.iter().map(text).collect()),
        _ => {
            // An octet of the suite is a character of Latin 1.
            let octets = |value: &Yaml| {
                texts_joined(value).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
            };
            Answer::Texts(values.iter().map(octets).collect())
        }
    }
}

fn texts_joined(value: &Yaml) -> String {
    texts(value).concat()
}

fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let digits = format!("{:032x}", address.to_bits());
            let digits: Vec<_> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}
