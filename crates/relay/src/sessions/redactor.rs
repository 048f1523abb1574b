//! Hides what proves a credential in what is shown of a session.
//!
//! Invariant: whatever the mechanism, of AUTH (RFC 4954) its name is shown and nothing else; who
//! asks knows from the machine of the session which lines belong to an exchange. Pure.

/// A line of the client, without its end; `is_secret` where it belongs to an exchange of AUTH.
pub fn client_line(line: &str, is_secret: bool) -> String {
    if is_secret {
        return HIDDEN.to_owned();
    }
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(auth), Some(mechanism)) if auth.eq_ignore_ascii_case("AUTH") => {
            let rest = if words.next().is_some() { " (hidden)" } else { "" };
            format!("AUTH {mechanism}{rest}")
        }
        _ => line.to_owned(),
    }
}

/// A line of the server, without its end: a challenge is secret.
pub fn server_line(line: &str) -> String {
    if line.starts_with("334") { format!("334 {HIDDEN}") } else { line.to_owned() }
}

/// Splits what was said into lines without their ends.
pub fn lines(octets: &[u8]) -> impl Iterator<Item = String> {
    octets.split_inclusive(|octet| *octet == b'\n').map(|line| {
        let line = String::from_utf8_lossy(line);
        line.trim_end_matches(['\r', '\n']).to_owned()
    })
}

const HIDDEN: &str = "(hidden)";
