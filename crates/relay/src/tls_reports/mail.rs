//! A report of TLS as a mail (RFC 8460 §5.3), and as the batch in which it is handed over.
//!
//! Invariant: no line but that of its end begins with a dot, and no text of others ends a field.
//! Pure.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use merpati_mail::{Domain, Mailbox, Time};

/// What a report is sent with.
pub(super) struct Letter<'a> {
    /// Whose sessions it tells of.
    pub(super) domain: &'a Domain,
    /// From whom.
    pub(super) from: &'a Mailbox,
    /// Our name.
    pub(super) hostname: &'a Domain,
    /// The id of the report: letters, digits, dots and hyphens.
    pub(super) id: &'a str,
    /// The JSON in gzip.
    pub(super) packed: &'a [u8],
    /// The name of the file; ASCII without quotes.
    pub(super) file: &'a str,
    /// When it is written.
    pub(super) now: Time,
    /// To whom.
    pub(super) to: &'a Mailbox,
}

impl Letter<'_> {
    /// The message.
    pub(super) fn content(&self) -> String {
        let Self { domain, from, hostname, id, file, to, .. } = self;
        let date = self.now.rfc5322();
        let boundary = format!("=_{id}");
        let encoded = STANDARD.encode(self.packed);
        // Of ASCII alone, so that no line is cut within a character.
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(76).filter_map(|line| str::from_utf8(line).ok()).collect();
        let encoded = lines.join("\r\n");
        // RFC 8689 §5 gives `TLS-Required: No` to such reports: they must arrive where TLS does
        // not work, for that is what they tell.
        format!(
            "Date: {date}\r\n\
             From: <{from}>\r\n\
             To: <{to}>\r\n\
             Subject: Report Domain: {domain}\r\n Submitter: {hostname}\r\n Report-ID: <{id}>\r\n\
             Message-ID: <{id}@{hostname}>\r\n\
             TLS-Report-Domain: {domain}\r\n\
             TLS-Report-Submitter: {hostname}\r\n\
             TLS-Required: No\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n \
             boundary=\"{boundary}\"\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             \r\n\
             This is a report of TLS between {hostname}\r\n\
             and the mail hosts of {domain}\r\n\
             (SMTP TLS Reporting, RFC 8460).\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: application/tlsrpt+gzip\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n filename=\"{file}\"\r\n\
             \r\n\
             {encoded}\r\n\
             --{boundary}--\r\n"
        )
    }

    /// The same with its envelope, as the drop directory takes it.
    pub(super) fn batch(&self) -> String {
        let Self { from, hostname, to, .. } = self;
        let utf8 = if from.needs_smtputf8() || to.needs_smtputf8() { " SMTPUTF8" } else { "" };
        format!(
            "EHLO {hostname}\r\nMAIL FROM:<{from}>{utf8}\r\nRCPT TO:<{to}>\r\nDATA\r\n\
             {}.\r\nQUIT\r\n",
            self.content()
        )
    }
}

#[cfg(test)]
mod tests {
    use merpati_mail::header;

    use super::*;
    use crate::tls_reports::{open, pack};

    #[test]
    fn a_report_is_a_mail_that_readers_of_reports_take_apart() {
        let long =
            format!("{}.example", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."));
        let domain = Domain::parse(&long).unwrap();
        let (from, to) =
            (Mailbox::parse("tls@ours.example").unwrap(), Mailbox::parse("r@a.example").unwrap());
        let hostname = Domain::parse("mx.ours.example").unwrap();
        let json = format!("{{\"policies\":[],\"report-id\":\"{}\"}}", "x".repeat(999));
        let packed = pack(json.as_bytes()).unwrap();
        let letter = Letter {
            domain: &domain,
            from: &from,
            hostname: &hostname,
            id: "2026-11-30.1f",
            packed: &packed,
            file: "mx.ours.example!a.example!1!2!x.json.gz",
            now: Time::from_secs(1_800_000_000),
            to: &to,
        };
        let content = letter.content();
        let reports = open(content.as_bytes()).unwrap();
        assert_eq!(reports[0].id.as_ref().unwrap().len(), 999);
        let field = |name| header::first(content.as_bytes(), name).unwrap().unfolded();
        assert_eq!(
            field("Subject"),
            format!("Report Domain: {long} Submitter: mx.ours.example Report-ID: <2026-11-30.1f>")
        );
        assert_eq!(field("TLS-Report-Domain"), long);
        assert_eq!(field("TLS-Report-Submitter"), "mx.ours.example");
        assert_eq!(field("TLS-Required"), "No");
        assert!(field("Content-Type").starts_with("multipart/report; report-type=\"tlsrpt\";"));
        for line in content.split("\r\n") {
            assert!(line.len() <= 253 && !line.starts_with('.') && !line.contains('\n'), "{line}");
        }
        let batch = letter.batch();
        assert!(batch.starts_with(
            "EHLO mx.ours.example\r\nMAIL FROM:<tls@ours.example>\r\nRCPT TO:<r@a.example>\r\n\
             DATA\r\nDate: "
        ));
        assert!(batch.ends_with("--\r\n.\r\nQUIT\r\n"));
    }
}
