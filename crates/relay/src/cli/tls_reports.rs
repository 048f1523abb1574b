//! `merpati tls-reports`: what others tell of TLS with our hosts (RFC 8460), in sentences.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;

use super::{
    Failure, Format, FormatArguments,
    output::{Output, harmless_line},
};
use crate::tls_reports::{Detail, PolicyReport, Report, open};

#[derive(Debug, Subcommand)]
pub(super) enum TlsReportsCommand {
    /// Show a report that somebody sent: a whole mail, what is attached to it, or JSON.
    Show {
        /// The file, or - for standard input.
        file: PathBuf,
        #[command(flatten)]
        format: FormatArguments,
    },
}

pub(super) fn run(command: &TlsReportsCommand, output: &mut Output) -> Result<ExitCode, Failure> {
    let TlsReportsCommand::Show { file, format } = command;
    let octets = read(file).map_err(|why| Failure::Other(format!("{}: {why}", file.display())))?;
    let reports =
        open(&octets).map_err(|why| Failure::Other(format!("{}: {why}", file.display())))?;
    for report in &reports {
        match format.format {
            Format::Jsonl => output.line(&report.to_json().to_string())?,
            Format::Table => tell(report, output)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(FILE_OCTETS_MAX).read_to_end(&mut octets)?;
    } else {
        File::open(file)?.take(FILE_OCTETS_MAX).read_to_end(&mut octets)?;
    }
    if octets.len() as u64 == FILE_OCTETS_MAX {
        return Err(io::Error::other(format!("it has {FILE_OCTETS_MAX} octets or more")));
    }
    Ok(octets)
}

fn tell(report: &Report, output: &mut Output) -> io::Result<()> {
    for line in lines(report) {
        output.line(&harmless_line(&line))?;
    }
    Ok(())
}

/// A report in sentences, and what to do.
fn lines(report: &Report) -> Vec<String> {
    let who = report.organization.as_deref().unwrap_or("Somebody who gives no name");
    let mut lines = Vec::new();
    for policy in &report.policies {
        lines.push(sentence(who, policy, &when(report)));
        let mut details: Vec<&Detail> = policy.details.iter().collect();
        details.sort_by_key(|detail| std::cmp::Reverse(detail.sessions));
        let (shown, left) = details.split_at(details.len().min(DETAILS_SHOWN));
        for detail in shown {
            lines.push(format!("  {}", of_detail(detail)));
        }
        if !left.is_empty() {
            lines.push(format!("  … and {} ways more; -o jsonl has them", left.len()));
        }
        let mut kinds: Vec<&str> = policy.details.iter().map(|one| one.result.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        lines.extend(kinds.iter().filter_map(|kind| Some(format!("  {kind}: {}", advice(kind)?))));
    }
    if report.policies.is_empty() {
        lines.push(format!("{who} saw no sessions{}.", when(report)));
    }
    let contact = report.contact.as_ref().map(|contact| format!("Questions go to {contact}."));
    lines.extend(contact);
    lines
}

fn sentence(who: &str, policy: &PolicyReport, when: &str) -> String {
    let domain = if policy.domain.is_empty() { "a domain" } else { &policy.domain };
    let all = policy.successes.saturating_add(policy.failures);
    let under = match policy.kind.as_str() {
        "no-policy-found" => "without a policy".to_owned(),
        "sts" => match policy.lines.iter().find_map(|line| line.strip_prefix("mode:")) {
            Some(mode) => format!("under MTA-STS ({})", mode.trim()),
            None => "under MTA-STS".to_owned(),
        },
        "tlsa" => "under DANE".to_owned(),
        "" => "under a policy that is not told".to_owned(),
        other => format!("under `{other}`"),
    };
    let failed = match policy.failures {
        0 => "none failed".to_owned(),
        failures => format!("{} failed", count(failures)),
    };
    let sessions = if all == 1 { "session" } else { "sessions" };
    format!("{who} had {} {sessions} with {domain} {under}{when}; {failed}.", count(all))
}

/// The day of a report, or its whole range.
fn when(report: &Report) -> String {
    let day = |time: &Option<String>| {
        let time = time.as_deref().unwrap_or_default();
        time.split('T').next().unwrap_or_default().to_owned()
    };
    let (begin, end) = (day(&report.begin), day(&report.end));
    match (begin.is_empty(), begin == end || end.is_empty()) {
        (true, _) => String::new(),
        (false, true) => format!(" on {begin}"),
        (false, false) => format!(" from {begin} to {end}"),
    }
}

fn of_detail(detail: &Detail) -> String {
    let result = if detail.result.is_empty() { "a way that is not told" } else { &detail.result };
    let at = match (&detail.mx, &detail.receiving_ip) {
        (Some(mx), Some(ip)) => format!(" at {mx} [{ip}]"),
        (Some(one), None) | (None, Some(one)) => format!(" at {one}"),
        (None, None) => String::new(),
    };
    let helo = detail.helo.as_ref().filter(|helo| detail.mx.as_ref() != Some(helo));
    let helo = helo.map(|helo| format!(", which calls itself {helo}")).unwrap_or_default();
    let from = detail.sending_ip.as_ref().map(|ip| format!(", from {ip}")).unwrap_or_default();
    let first = format!("{} by {result}{at}{helo}{from}", count(detail.sessions));
    let more = [&detail.reason, &detail.information].into_iter().flatten().cloned();
    std::iter::once(first).chain(more).collect::<Vec<_>>().join(": ")
}

/// What to do about failures of a kind (§4.3); `None` where that is not known.
fn advice(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "certificate-expired" => "renew the certificate of that host",
        "certificate-host-mismatch" => {
            "the certificate must have the name of the host as MX has it; correct one of them"
        }
        "certificate-not-trusted" => {
            "the certificate must lead to a CA that others trust; serve those between as well"
        }
        "dane-required" => "the sender wants DANE, and no TLSA record can be used",
        "dnssec-invalid" => "signatures in DNS are wrong or too old; see to the zone",
        "starttls-not-supported" => {
            "the host did not offer STARTTLS, or somebody between took it away"
        }
        "sts-policy-fetch-error" => {
            "https://mta-sts.DOMAIN/.well-known/mta-sts.txt could not be fetched"
        }
        "sts-policy-invalid" => "the policy of MTA-STS has a mistake; `domain check` names it",
        "sts-webpki-invalid" => "the certificate of mta-sts.DOMAIN is not good",
        "tlsa-invalid" => "no TLSA record can be used; `domain records --tlsa` has good ones",
        "validation-failure" => "something else is wrong with the certificate",
        _ => return None,
    })
}

/// A number with its thousands set apart.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The longest file.
const FILE_OCTETS_MAX: u64 = 64 << 20;

/// Ways of failing that are shown for a policy.
const DETAILS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_told_in_sentences() {
        let value = json!({
            "organization-name": "Company-X",
            "date-range": { "start-datetime": "2026-11-30T00:00:00Z",
                            "end-datetime": "2026-11-30T23:59:59Z" },
            "contact-info": "sts@x.example",
            "policies": [{
                "policy": { "policy-type": "sts", "policy-string": ["mode: testing"],
                            "policy-domain": "ours.example" },
                "summary": { "total-successful-session-count": 5326,
                             "total-failure-session-count": 303 },
                "failure-details": [
                    { "result-type": "starttls-not-supported", "failed-session-count": 3,
                      "receiving-ip": "192.0.2.9" },
                    { "result-type": "certificate-expired", "failed-session-count": 300,
                      "receiving-mx-hostname": "mx1.ours.example", "receiving-ip": "192.0.2.1",
                      "sending-mta-ip": "198.51.100.7", "failure-reason-code": "old" },
                ],
            }, {
                "policy": { "policy-type": "no-policy-found", "policy-domain": "b.example" },
                "summary": { "total-successful-session-count": 1,
                             "total-failure-session-count": 0 },
            }],
        });
        let lines = lines(&Report::of(&value).unwrap());
        assert_eq!(
            lines,
            [
                "Company-X had 5,629 sessions with ours.example under MTA-STS (testing) on \
             2026-11-30; 303 failed.",
                "  300 by certificate-expired at mx1.ours.example [192.0.2.1], from \
                 198.51.100.7: old",
                "  3 by starttls-not-supported at 192.0.2.9",
                "  certificate-expired: renew the certificate of that host",
                "  starttls-not-supported: the host did not offer STARTTLS, or somebody \
                 between took it away",
                "Company-X had 1 session with b.example without a policy on \
                 2026-11-30; none failed.",
                "Questions go to sts@x.example.",
            ]
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, want) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), want);
        }
    }
}
