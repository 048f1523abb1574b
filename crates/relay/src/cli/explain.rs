//! `merpati explain`: whether mail would be accepted and where it would go, and why.

use std::{net::IpAddr, process::ExitCode};

use clap::Subcommand;
use serde_json::Value;

use super::{
    Failure, Format, FormatArguments,
    client::{Client, encoded},
    output::{Output, harmless_line, plain},
};

#[derive(Debug, Subcommand)]
pub(super) enum ExplainCommand {
    /// Tell whether a client's mail would be accepted, and by which rule; nothing is sent.
    Accept {
        /// The address of the client.
        #[arg(long, value_name = "ADDRESS")]
        ip: IpAddr,
        /// The sender; without one, the null reverse-path.
        #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
        from: String,
        /// The recipient.
        #[arg(long, value_name = "ADDRESS")]
        rcpt: String,
        /// The listener; without one, the first that takes mail from anybody.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        listener: String,
        /// The credential with which the client authenticates; without one, none.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        credential: String,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Tell how mail to a domain would be protected, and who asks for that; no mail server is
    /// connected to.
    Tls {
        /// The domain, such as example.org.
        domain: String,
        #[command(flatten)]
        format: FormatArguments,
    },
    /// Tell which rule covers a recipient, and which hosts would be tried.
    Route {
        /// The recipient, such as ani@example.org, or `postmaster`.
        address: String,
        /// The sender; without one, the null reverse-path, which no rule about senders covers.
        #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
        from: String,
        /// The credential that hands the message over; without one, none.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        credential: String,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(super) fn run(
    command: &ExplainCommand,
    client: &Client,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        ExplainCommand::Accept { ip, from, rcpt, listener, credential, format } => {
            let target = format!(
                "/v1/explain/accept?ip={ip}&from={}&rcpt={}&listener={}&credential={}",
                encoded(from),
                encoded(rcpt),
                encoded(listener),
                encoded(credential)
            );
            let answer = client.json(&target)?;
            match format.format {
                Format::Jsonl => output.line(&answer.to_string())?,
                Format::Table => show_acceptance(&answer, output)?,
            }
        }
        ExplainCommand::Tls { domain, format } => {
            let answer = client.json(&format!("/v1/explain/tls?domain={}", encoded(domain)))?;
            match format.format {
                Format::Jsonl => output.line(&answer.to_string())?,
                Format::Table => show_protection(&answer, output)?,
            }
        }
        ExplainCommand::Route { address, from, credential, format } => {
            let target = format!(
                "/v1/explain/route?address={}&from={}&credential={}",
                encoded(address),
                encoded(from),
                encoded(credential)
            );
            let answer = client.json(&target)?;
            match format.format {
                Format::Jsonl => output.line(&answer.to_string())?,
                Format::Table => show(&answer, output)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentence, what would be said, and what was asked on the way.
fn show_acceptance(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    output.line(&harmless_line(&plain(answer.get("sentence"))))?;
    output.line("")?;
    let step = |step: &&Value| {
        let accepted = step.get("accepted").and_then(Value::as_bool).unwrap_or(false);
        let said = if accepted { "yes".to_owned() } else { plain(step.get("reply")) };
        vec![plain(step.get("command")), plain(step.get("rule")), said]
    };
    let steps: Vec<Vec<String>> = rows(answer, "steps").iter().map(step).collect();
    output.table(&["AT", "RULE", "SAYS"], &steps)?;
    let asked: Vec<Vec<String>> = rows(answer, "asked")
        .into_iter()
        .map(|one| vec![plain(one.get("question")), plain(one.get("answer"))])
        .collect();
    if !asked.is_empty() {
        output.line("")?;
        output.table(&["ASKED", "ANSWER"], &asked)?;
    }
    Ok(())
}

/// The sentence, what was found out, and each host.
fn show_protection(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(answer.pointer(pointer));
    output.line(&harmless_line(&text("/sentence")))?;
    output.line("")?;
    let policy = match text("/mta_sts/policy/mode") {
        mode if mode.is_empty() => String::new(),
        mode => format!(
            "{mode}: {} (id {}, fetched {}, until {})",
            text("/mta_sts/policy/mx"),
            text("/mta_sts/policy/id"),
            text("/mta_sts/policy/fetched_at"),
            text("/mta_sts/policy/expires_at")
        ),
    };
    output.facts(&[
        ("domain", text("/domain")),
        ("rule", text("/rule")),
        ("tls", text("/tls")),
        ("dnssec", text("/dnssec")),
        ("mta-sts record", text("/mta_sts/record")),
        ("mta-sts policy", policy),
        ("mta-sts trouble", text("/mta_sts/trouble")),
    ])?;
    let hosts: Vec<Vec<String>> = rows(answer, "hosts").into_iter().map(protected).collect();
    if !hosts.is_empty() {
        output.line("")?;
        output.table(&["HOST", "DEMAND", "ASKED BY", "TLSA", "MEANS"], &hosts)?;
    }
    Ok(())
}

fn protected(host: &Value) -> Vec<String> {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    vec![
        plain(host.get("name")),
        dash(plain(host.get("demand"))),
        dash(plain(host.get("source"))),
        dash(rows(host, "records").iter().map(|it| plain(Some(it))).collect::<Vec<_>>().join("; ")),
        plain(host.get("sentence")),
    ]
}

fn show(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    let text = |pointer: &str| plain(answer.pointer(pointer));
    output.line(&harmless_line(&text("/sentence")))?;
    if answer.get("trouble").is_some_and(|trouble| !trouble.is_null()) {
        output.line(&harmless_line(&format!("To do: {}", text("/trouble/advice"))))?;
    }
    output.line("")?;
    let sender = if text("/from").is_empty() { "<>".to_owned() } else { text("/from") };
    output.facts(&[
        ("to", format!("{} (domain {})", text("/address"), text("/domain"))),
        ("from", sender),
        ("credential", text("/credential")),
        ("rule", text("/route/rule")),
        ("next hop", text("/route/next_hop")),
        ("tls", text("/tls")),
        ("egress", text("/egress")),
    ])?;
    let aliases: Vec<Vec<String>> = rows(answer, "aliases").into_iter().map(alias).collect();
    if !aliases.is_empty() {
        output.line("")?;
        output.table(&["ALIAS", "WRITTEN IN", "LEADS TO"], &aliases)?;
    }
    let rules = rows(answer, "rules");
    if !rules.is_empty() {
        output.line("")?;
        // The ones just before the decision are the ones that surprise.
        let hidden = rules.len().saturating_sub(RULES_SHOWN);
        if hidden > 0 {
            output.line(&format!("({hidden} rules before these do not cover it; see -o jsonl)"))?;
        }
        let rules: Vec<Vec<String>> = rules.into_iter().skip(hidden).map(rule).collect();
        output.table(&["RULE", "COVERS", "BECAUSE"], &rules)?;
    }
    let hosts: Vec<Vec<String>> = rows(answer, "hosts").into_iter().map(host).collect();
    if !hosts.is_empty() {
        output.line("")?;
        output.table(&["HOST", "PREFERENCE", "ADDRESSES", "TRIED"], &hosts)?;
    }
    Ok(())
}

fn rows<'a>(answer: &'a Value, key: &str) -> Vec<&'a Value> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten().collect()
}

fn alias(alias: &Value) -> Vec<String> {
    vec![plain(alias.get("address")), plain(alias.get("origin")), plain(alias.get("to"))]
}

/// A rule, and the first condition that does not hold, or all that do.
fn rule(rule: &Value) -> Vec<String> {
    let covers = rule.get("covers").and_then(Value::as_bool).unwrap_or(false);
    let conditions = rows(rule, "conditions");
    let holds = |one: &&&Value| one.get("holds").and_then(Value::as_bool).unwrap_or(false);
    let fails = conditions.iter().find(|one| !holds(one));
    let because = match fails {
        Some(fails) => format!("not so: {}", plain(fails.get("text"))),
        None if conditions.is_empty() => "it has no conditions".to_owned(),
        None => {
            let texts: Vec<String> = conditions.iter().map(|one| plain(one.get("text"))).collect();
            texts.join("; ")
        }
    };
    vec![plain(rule.get("name")), if covers { "yes" } else { "no" }.to_owned(), because]
}

fn host(host: &Value) -> Vec<String> {
    let tried = match host.get("why_not").and_then(Value::as_str) {
        Some(why) => format!("no: {why}"),
        None => "yes".to_owned(),
    };
    let addresses = plain(host.get("addresses"));
    let addresses = if addresses.is_empty() { "-".to_owned() } else { addresses };
    vec![plain(host.get("name")), plain(host.get("preference")), addresses, tried]
}

/// Rules that are shown in a table, the deciding one last.
const RULES_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_tells_the_first_condition_that_does_not_hold() {
        let condition = |text: &str, holds: bool| json!({"text": text, "holds": holds});
        for (conditions, covers, want) in [
            (vec![], true, ["r", "yes", "it has no conditions"]),
            (vec![condition("a", true), condition("b", true)], true, ["r", "yes", "a; b"]),
            (vec![condition("a", true), condition("b", false)], false, ["r", "no", "not so: b"]),
        ] {
            let value = json!({"name": "r", "covers": covers, "conditions": conditions});
            assert_eq!(rule(&value), want);
        }
    }

    #[test]
    fn a_host_tells_why_it_is_not_tried() {
        let value = json!({"name": "a:25", "preference": 10, "addresses": [], "why_not": "none"});
        assert_eq!(host(&value), ["a:25", "10", "-", "no: none"]);
        let value = json!({"name": "a:25", "preference": null, "addresses": ["192.0.2.1"]});
        assert_eq!(host(&value), ["a:25", "-", "192.0.2.1", "yes"]);
    }
}
