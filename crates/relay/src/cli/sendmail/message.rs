//! What a program gave becomes a message with an envelope: recipients from the header where that
//! was asked for, and the fields that a message must have. Pure.

use std::fmt::Write as _;

use merpati_mail::{Domain, Mailbox, Time, address, header};

use super::arguments::SendmailArguments;
use crate::conversation::stuffed;

/// Who calls, and where.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) hostname: String,
}

/// A message as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Submission {
    /// The reverse-path without brackets; empty for the null reverse-path.
    reverse_path: String,
    recipients: Vec<Mailbox>,
    /// The content, with the line ends of SMTP.
    pub(super) content: Vec<u8>,
}

impl Submission {
    /// Reads what came on standard input, with the line ends of SMTP; errs with what is wrong.
    pub(super) fn of(
        arguments: &SendmailArguments,
        octets: &[u8],
        login: &Login,
        now: Time,
    ) -> Result<Self, String> {
        let domain = Domain::parse(&login.hostname)
            .map_err(|why| format!("this machine is called {}: {why}", login.hostname))?;
        let octets = without_mbox_line(octets);
        let mut recipients = Vec::new();
        for words in &arguments.recipients {
            recipients.extend(listed(words, &domain)?);
        }
        if arguments.reads_recipients {
            recipients.extend(named_in(octets)?);
        }
        recipients.sort();
        recipients.dedup();
        if recipients.is_empty() {
            return Err("there is no recipient; name one, or say -t for those of the header".into());
        }
        let author = || complete(&login.user, &domain).map(|author| author.to_string());
        let sender = match arguments.sender.as_deref().map(|it| it.trim_matches(['<', '>'])) {
            None => author()?,
            Some("") => String::new(),
            Some(named) => complete(named, &domain)?.to_string(),
        };
        let from = if sender.is_empty() { author()? } else { sender.clone() };
        let mut text = String::new();
        add_missing(&mut text, octets, &From { address: &from, name: arguments }, now);
        let mut content = text.into_bytes();
        content.extend_from_slice(&without_bcc(octets));
        Ok(Self { reverse_path: sender, recipients, content })
    }

    /// Everything before the content, line by line.
    pub(super) fn commands(&self) -> Vec<String> {
        let is_8bit = !self.content.is_ascii();
        let body = if is_8bit { " BODY=8BITMIME" } else { "" };
        let is_utf8 = !self.reverse_path.is_ascii()
            || self.recipients.iter().any(|to| !to.to_string().is_ascii());
        let utf8 = if is_utf8 { " SMTPUTF8" } else { "" };
        let mail = format!("MAIL FROM:<{}>{body}{utf8}", self.reverse_path);
        let mut commands = vec!["EHLO localhost".to_owned(), mail];
        commands.extend(self.recipients.iter().map(|to| format!("RCPT TO:<{to}>")));
        commands.push("DATA".to_owned());
        commands
    }

    /// The whole conversation, as the client says it (RFC 2442).
    pub(super) fn batch(&self) -> Vec<u8> {
        let commands = self.commands().join("\r\n") + "\r\n";
        [commands.as_bytes(), &stuffed(&self.content), b".\r\nQUIT\r\n"].concat()
    }
}

/// An address, with our own domain where it has none.
fn complete(text: &str, domain: &Domain) -> Result<Mailbox, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("`{text}` is not an address: {why}");
    let named = text.trim();
    if named.contains('@') {
        return Mailbox::parse(named).map_err(|why| wrong(&why));
    }
    Mailbox::parse(&format!("{named}@{domain}")).map_err(|why| wrong(&why))
}

/// The recipients of an argument: one, or several with commas, also as a header field has them.
fn listed(words: &str, domain: &Domain) -> Result<Vec<Mailbox>, String> {
    if let Ok(one) = complete(words, domain) {
        return Ok(vec![one]);
    }
    match address::parse_header_list(words.as_bytes()) {
        Ok(all) if !all.is_empty() => Ok(all.into_iter().map(|one| one.mailbox).collect()),
        Ok(_) | Err(_) => words.split(',').map(|one| complete(one, domain)).collect(),
    }
}

/// Without the line with which a mail of an mbox begins.
fn without_mbox_line(octets: &[u8]) -> &[u8] {
    if !octets.starts_with(b"From ") {
        return octets;
    }
    let end = octets.iter().position(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    octets.get(end..).unwrap_or_default()
}

/// The recipients of To, Cc and Bcc; of Resent-To and its kin where it is resent (RFC 5322 §3.6.6).
fn named_in(octets: &[u8]) -> Result<Vec<Mailbox>, String> {
    let mut all = Vec::new();
    let is_resent = header::fields(octets).any(|field| RESENT.iter().any(|name| field.is(name)));
    let wanted = if is_resent { RESENT } else { ["To", "Cc", "Bcc"] };
    for field in header::fields(octets) {
        if !wanted.iter().any(|name| field.is(name)) {
            continue;
        }
        if field.unfolded().trim().is_empty() {
            continue;
        }
        let name = String::from_utf8_lossy(field.name).into_owned();
        let named = address::parse_header_list(field.value)
            .map_err(|why| format!("the field {name} cannot be read: {why}"))?;
        all.extend(named.into_iter().map(|one| one.mailbox));
    }
    Ok(all)
}

/// Who the author is, where the message does not say.
struct From<'a> {
    address: &'a str,
    name: &'a SendmailArguments,
}

/// Date, From and Message-ID, as far as they are missing (RFC 5322 §3.6).
fn add_missing(text: &mut String, octets: &[u8], from: &From<'_>, now: Time) {
    let has = |name| header::first(octets, name).is_some();
    // Writing into a string cannot fail.
    if !has("Date") {
        let _ = write!(text, "Date: {}\r\n", now.rfc5322());
    }
    if !has("From") {
        let name = from.name.full_name.as_deref().unwrap_or_default();
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let address = from.address;
        let _ = if name.is_empty() {
            write!(text, "From: <{address}>\r\n")
        } else if name.is_ascii() {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            write!(text, "From: \"{quoted}\" <{address}>\r\n")
        } else {
            write!(text, "From: {}\r\n <{address}>\r\n", header::encode_word(&name))
        };
    }
    if !has("Message-ID") {
        let domain = from.address.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
        let _ =
            write!(text, "Message-ID: <{}.{}@{domain}>\r\n", now.as_micros(), std::process::id());
    }
    // A message that begins with its body has no header at all.
    if header::body_start(octets) == 0 {
        text.push_str("\r\n");
    }
}

/// The message without what others must not see (RFC 5322 §3.6.3).
fn without_bcc(octets: &[u8]) -> Vec<u8> {
    let mut kept = octets.to_vec();
    let is_hidden = |field: &header::Field<'_>| field.is("Bcc") || field.is("Resent-Bcc");
    let gone: Vec<_> = header::fields(octets).filter(is_hidden).map(|field| field.range).collect();
    for range in gone.into_iter().rev() {
        kept.drain(range);
    }
    kept
}

const RESENT: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(line: &str, text: &str) -> Result<Submission, String> {
        let words = line.split(' ').map(str::to_owned);
        let login = Login { user: "ani".to_owned(), hostname: "box.example".to_owned() };
        let arguments = SendmailArguments::read(words).unwrap();
        let octets = text.replace('\n', "\r\n");
        Submission::of(&arguments, octets.as_bytes(), &login, Time::from_secs(1_795_467_000))
    }

    #[test]
    fn what_is_missing_is_added_and_recipients_are_found() {
        let text = "To: Budi <budi@b.example>, c@c.example\nBcc: d@d.example\nSubject: x\n\nhi\n";
        let made = submission("-t", text).unwrap();
        let want = [
            "EHLO localhost",
            "MAIL FROM:<ani@box.example>",
            "RCPT TO:<budi@b.example>",
            "RCPT TO:<c@c.example>",
            "RCPT TO:<d@d.example>",
            "DATA",
        ];
        assert_eq!(made.commands(), want);
        let text = String::from_utf8(made.content).unwrap();
        let parts =
            ["From: <ani@box.example>\r\n", "Date: ", "Message-ID: <", "Subject: x\r\n\r\nhi\r\n"];
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("Bcc"), "{text}");
    }

    #[test]
    fn a_sender_a_name_and_a_local_recipient_are_taken_from_the_arguments() {
        let made = submission("-f <> -F A\"ni root", "Subject: x\n\n.dot\n").unwrap();
        assert_eq!(made.commands()[1..3], ["MAIL FROM:<>", "RCPT TO:<root@box.example>"]);
        let batch = String::from_utf8(made.batch()).unwrap();
        assert!(batch.contains("From: \"A\\\"ni\" <ani@box.example>\r\n"), "{batch}");
        assert!(batch.ends_with("\r\n\r\n..dot\r\n.\r\nQUIT\r\n"), "{batch}");
        let made = submission("-F Änni root", "Subject: x\n\nx\n").unwrap();
        let text = String::from_utf8(made.content).unwrap();
        assert!(text.contains("From: =?utf-8?Q?=C3=84nni?=\r\n <ani@box.example>\r\n"), "{text}");
    }

    #[test]
    fn what_is_hidden_is_hidden_whoever_names_the_recipients() {
        let text =
            "From x@y Mon\nResent-To: e@e.example\nTo: b@b.example\nBcc: d@d.example\n\nhi\n";
        for (line, to) in
            [("-t", "RCPT TO:<e@e.example>"), ("c@c.example,f@f.example", "RCPT TO:<c@")]
        {
            let made = submission(line, text).unwrap();
            assert!(made.commands()[2].starts_with(to), "{:?}", made.commands());
            let content = String::from_utf8(made.content).unwrap();
            assert!(!content.contains("Bcc") && !content.contains("From x@y"), "{content}");
        }
    }

    #[test]
    fn without_a_recipient_nothing_is_sent() {
        for (line, text, why) in [
            ("-i", "Subject: x\n\n", "there is no recipient"),
            ("-t", "To: budi@\n\n", "the field To cannot be read"),
            ("a@@b", "\n", "is not an address"),
        ] {
            let error = submission(line, text).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
