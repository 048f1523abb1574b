//! A report of TLS as its JSON has it (RFC 8460 §4.4), ours and those of others.
//!
//! Invariant: what we write, we read again; of what others write, whatever can be read is taken,
//! and sizes are bounded by whoever hands over the text. Pure.

use serde_json::{Map, Value, json};

/// A report. Texts of others are as they wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who reports: `organization-name`.
    pub organization: Option<String>,
    /// Whom to ask: `contact-info`.
    pub contact: Option<String>,
    /// `report-id`.
    pub id: Option<String>,
    /// `start-datetime`, in RFC 3339.
    pub begin: Option<String>,
    /// `end-datetime`, in RFC 3339.
    pub end: Option<String>,
    /// What was seen under each policy.
    pub policies: Vec<PolicyReport>,
}

/// What was seen under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyReport {
    /// `tlsa`, `sts` or `no-policy-found`.
    pub kind: String,
    /// The policy line by line, or its TLSA records: `policy-string`.
    pub lines: Vec<String>,
    /// Whose it is: `policy-domain`.
    pub domain: String,
    /// The patterns of hosts in a policy of MTA-STS: `mx-host`.
    pub mx: Vec<String>,
    /// Sessions that came about: `total-successful-session-count`.
    pub successes: u64,
    /// Sessions that did not: `total-failure-session-count`.
    pub failures: u64,
    /// Why they did not.
    pub details: Vec<Detail>,
}

/// Sessions that failed in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// In which way: `result-type` (§4.3).
    pub result: String,
    /// From where: `sending-mta-ip`.
    pub sending_ip: Option<String>,
    /// To which host: `receiving-mx-hostname`.
    pub mx: Option<String>,
    /// How that host called itself: `receiving-mx-helo`.
    pub helo: Option<String>,
    /// Where that host was: `receiving-ip`.
    pub receiving_ip: Option<String>,
    /// How many: `failed-session-count`.
    pub sessions: u64,
    /// Where to read more: `additional-information`.
    pub information: Option<String>,
    /// Why, in words or a code: `failure-reason-code`.
    pub reason: Option<String>,
}

impl Report {
    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let policies: Vec<Value> = self.policies.iter().map(PolicyReport::to_json).collect();
        let mut all = Map::new();
        put(&mut all, "organization-name", self.organization.as_ref());
        all.insert(
            "date-range".to_owned(),
            json!({ "start-datetime": self.begin, "end-datetime": self.end }),
        );
        put(&mut all, "contact-info", self.contact.as_ref());
        put(&mut all, "report-id", self.id.as_ref());
        all.insert("policies".to_owned(), Value::Array(policies));
        Value::Object(all)
    }

    /// Reads a report; `None` where it is none: no object, or one without policies.
    pub fn of(value: &Value) -> Option<Self> {
        let policies = value.get("policies")?.as_array()?;
        let range = value.get("date-range").unwrap_or(&Value::Null);
        Some(Self {
            organization: text(value, "organization-name"),
            contact: text(value, "contact-info"),
            id: text(value, "report-id"),
            begin: text(range, "start-datetime"),
            end: text(range, "end-datetime"),
            policies: policies.iter().map(PolicyReport::of).collect(),
        })
    }
}

impl PolicyReport {
    fn to_json(&self) -> Value {
        let mut policy = Map::new();
        policy.insert("policy-type".to_owned(), json!(self.kind));
        if !self.lines.is_empty() {
            policy.insert("policy-string".to_owned(), json!(self.lines));
        }
        policy.insert("policy-domain".to_owned(), json!(self.domain));
        if !self.mx.is_empty() {
            policy.insert("mx-host".to_owned(), json!(self.mx));
        }
        let mut all = Map::new();
        all.insert("policy".to_owned(), Value::Object(policy));
        all.insert(
            "summary".to_owned(),
            json!({
                "total-successful-session-count": self.successes,
                "total-failure-session-count": self.failures,
            }),
        );
        if !self.details.is_empty() {
            let details: Vec<Value> = self.details.iter().map(Detail::to_json).collect();
            all.insert("failure-details".to_owned(), Value::Array(details));
        }
        Value::Object(all)
    }

    fn of(value: &Value) -> Self {
        let policy = value.get("policy").unwrap_or(value);
        let summary = value.get("summary").unwrap_or(value);
        let details = value.get("failure-details");
        Self {
            kind: text(policy, "policy-type").unwrap_or_default(),
            lines: texts(policy, "policy-string"),
            domain: text(policy, "policy-domain").unwrap_or_default(),
            mx: texts(policy, "mx-host"),
            // The second name is that of the drafts, and still written.
            successes: number(summary, "total-successful-session-count")
                .or_else(|| number(summary, "total-successful"))
                .unwrap_or(0),
            failures: number(summary, "total-failure-session-count")
                .or_else(|| number(summary, "total-failure"))
                .unwrap_or(0),
            details: details.map(items).into_iter().flatten().map(Detail::of).collect(),
        }
    }
}

impl Detail {
    fn to_json(&self) -> Value {
        let mut all = Map::new();
        all.insert("result-type".to_owned(), json!(self.result));
        put(&mut all, "sending-mta-ip", self.sending_ip.as_ref());
        put(&mut all, "receiving-mx-hostname", self.mx.as_ref());
        put(&mut all, "receiving-mx-helo", self.helo.as_ref());
        put(&mut all, "receiving-ip", self.receiving_ip.as_ref());
        all.insert("failed-session-count".to_owned(), json!(self.sessions));
        put(&mut all, "additional-information", self.information.as_ref());
        put(&mut all, "failure-reason-code", self.reason.as_ref());
        Value::Object(all)
    }

    fn of(value: &Value) -> Self {
        Self {
            result: text(value, "result-type").unwrap_or_default(),
            sending_ip: text(value, "sending-mta-ip"),
            mx: text(value, "receiving-mx-hostname"),
            helo: text(value, "receiving-mx-helo"),
            receiving_ip: text(value, "receiving-ip"),
            sessions: number(value, "failed-session-count").unwrap_or(0),
            information: text(value, "additional-information"),
            reason: text(value, "failure-reason-code"),
        }
    }
}

fn put(all: &mut Map<String, Value>, name: &str, value: Option<&String>) {
    if let Some(value) = value {
        all.insert(name.to_owned(), json!(value));
    }
}

/// A text; a number counts as one, an empty one as none.
fn text(value: &Value, name: &str) -> Option<String> {
    let text = match value.get(name)? {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Bool(_) | Value::Null | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Texts; one alone counts as a list of it.
fn texts(value: &Value, name: &str) -> Vec<String> {
    let Some(value) = value.get(name) else { return Vec::new() };
    items(value).filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The items of a list; what is no list is one item.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, one) = match value {
        Value::Array(list) => (list.as_slice(), None),
        Value::Null => (&[][..], None),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::String(_) => {
            (&[][..], Some(value))
        }
    };
    list.iter().chain(one)
}

/// A number; its digits in a text count too.
fn number(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let report = Report {
            organization: Some("Ours".to_owned()),
            contact: Some("mailto:tls@ours.example".to_owned()),
            id: Some("1".to_owned()),
            begin: Some("2026-11-30T00:00:00Z".to_owned()),
            end: Some("2026-11-30T23:59:59Z".to_owned()),
            policies: vec![
                PolicyReport {
                    kind: "sts".to_owned(),
                    lines: vec!["version: STSv1".to_owned(), "mode: testing".to_owned()],
                    domain: "a.example".to_owned(),
                    mx: vec!["*.a.example".to_owned()],
                    successes: 5_326,
                    failures: 303,
                    details: vec![Detail {
                        result: "certificate-expired".to_owned(),
                        mx: Some("mx1.a.example".to_owned()),
                        sessions: 303,
                        ..Detail::default()
                    }],
                },
                PolicyReport { kind: "no-policy-found".to_owned(), ..PolicyReport::default() },
            ],
        };
        assert_eq!(Report::of(&report.to_json()), Some(report));
    }

    #[test]
    fn what_others_write_otherwise_is_understood() {
        let value = json!({
            "organization-name": " Sloppy ", "report-id": 7, "contact-info": null,
            "policies": [{
                "policy": { "policy-type": "sts", "policy-domain": "a.example",
                            "policy-string": "version: STSv1", "mx-host": "mx.a.example" },
                "summary": { "total-successful-session-count": "12", "total-failure": 3 },
                "failure-details": { "result-type": "starttls-not-supported",
                                     "failed-session-count": "3", "receiving-ip": "" },
            }, {}, "nonsense"],
        });
        let report = Report::of(&value).unwrap();
        assert_eq!(report.organization.as_deref(), Some("Sloppy"));
        assert_eq!((report.id.as_deref(), report.contact), (Some("7"), None));
        let policy = &report.policies[0];
        assert_eq!((policy.successes, policy.failures), (12, 3));
        assert_eq!(
            (&policy.lines[..], &policy.mx[..]),
            (&["version: STSv1".to_owned()][..], &["mx.a.example".to_owned()][..])
        );
        assert_eq!((policy.details[0].sessions, &policy.details[0].receiving_ip), (3, &None));
        for nothing in [json!([]), json!({}), json!({ "policies": 1 }), json!(null)] {
            assert_eq!(Report::of(&nothing), None);
        }
    }
}
