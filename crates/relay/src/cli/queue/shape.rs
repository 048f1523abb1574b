//! `merpati queue count` and `merpati queue shape`: how much waits, and how long.

use std::{collections::BTreeMap, process::ExitCode};

use serde_json::{Value, json};

use super::{
    super::{
        client::{Client, encoded},
        output::{Output, plain},
    },
    Failure, Format, ListFormat, QUEUE,
};

/// What waits in a group.
#[derive(Clone, Debug, Default)]
struct Group {
    deliveries: u64,
    messages: u64,
    /// By age, the youngest first; as many as the relay tells.
    ages: Vec<u64>,
}

/// All groups by their names.
struct Shape {
    groups: BTreeMap<String, Group>,
    /// The ages that part them, in minutes.
    bounds: Vec<u64>,
}

pub(super) fn count(
    query: &str,
    format: Format,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let all = Shape::ask(query, "status", client)?.sum();
    let (deliveries, messages) = (all.deliveries, all.messages);
    match format {
        Format::Jsonl => {
            let line = json!({ "deliveries": deliveries, "messages": messages });
            output.line(&line.to_string())?;
        }
        Format::Table => output.line(&deliveries.to_string())?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(
    query: &str,
    by: &str,
    format: ListFormat,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let shape = Shape::ask(query, by, client)?;
    let headings = shape.headings(by);
    match format {
        ListFormat::Csv => {
            let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
            output.csv(&headings, &shape.rows())?;
        }
        ListFormat::Jsonl => {
            for (name, group) in &shape.groups {
                let line = json!({
                    by: name, "deliveries": group.deliveries, "messages": group.messages,
                    "ages": group.ages, "bounds_minutes": shape.bounds,
                });
                output.line(&line.to_string())?;
            }
        }
        ListFormat::Table => {
            let headings: Vec<String> = headings.iter().map(|name| name.to_uppercase()).collect();
            let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
            let mut rows = vec![row("all", &shape.sum())];
            rows.extend(shape.rows());
            output.table(&headings, &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Shape {
    /// Asks for one part of the queue after the other.
    fn ask(query: &str, by: &str, client: &Client) -> Result<Self, Failure> {
        let target = format!("{QUEUE}/shape?query={}&by={}", encoded(query), encoded(by));
        let (mut groups, mut after) = (BTreeMap::<String, Group>::new(), String::new());
        loop {
            let answer = client.json(&format!("{target}&after={after}"))?;
            for one in answer.get("data").and_then(Value::as_array).into_iter().flatten() {
                groups.entry(plain(one.get("group"))).or_default().add(one);
            }
            match answer.pointer("/page/next").and_then(Value::as_str) {
                Some(next) => after = encoded(next),
                None => return Ok(Self { groups, bounds: numbers(answer.get("bounds_minutes")) }),
            }
        }
    }

    fn sum(&self) -> Group {
        let mut all = Group { ages: vec![0; self.bounds.len() + 1], ..Group::default() };
        for group in self.groups.values() {
            all.deliveries += group.deliveries;
            all.messages += group.messages;
            all.add_ages(&group.ages);
        }
        all
    }

    /// The group, how many, and the ages: each up to so many minutes, the last one above.
    fn headings(&self, by: &str) -> Vec<String> {
        let mut headings = vec![by.to_owned(), "deliveries".to_owned()];
        headings.extend(self.bounds.iter().map(|bound| format!("{bound} min")));
        headings.extend(self.bounds.last().map(|bound| format!("{bound}+ min")));
        headings
    }

    /// The largest first.
    fn rows(&self) -> Vec<Vec<String>> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.deliveries));
        groups.into_iter().map(|(name, group)| row(name, group)).collect()
    }
}

fn row(name: &str, group: &Group) -> Vec<String> {
    let mut row = vec![name.to_owned(), group.deliveries.to_string()];
    row.extend(group.ages.iter().map(ToString::to_string));
    row
}

impl Group {
    fn add(&mut self, one: &Value) {
        let number = |key| one.get(key).and_then(Value::as_u64).unwrap_or(0);
        self.deliveries += number("deliveries");
        self.messages += number("messages");
        self.add_ages(&numbers(one.get("ages")));
    }

    fn add_ages(&mut self, ages: &[u64]) {
        self.ages.resize(self.ages.len().max(ages.len()), 0);
        self.ages.iter_mut().zip(ages).for_each(|(sum, more)| *sum += more);
    }
}

fn numbers(value: Option<&Value>) -> Vec<u64> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_u64).collect()
}
