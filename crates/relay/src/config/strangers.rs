//! Which options there are about clients that nobody vouches for, and about recipients.
//!
//! Each stands here with its meaning, unit and default, and with what admission makes of it. Pure,
//! but for [`Recipients::verification`], which reads a file.

use std::{fs, io, num::NonZeroU32, path::PathBuf, time::Duration};

use merpati_flow::{
    admit::{
        Greylisting, Names, SenderDomain,
        lists::{List, ListAbout, ListAction},
        recipients::{CallAhead, Known, KnownRecipient, Verification},
    },
    greylist::GreylistOptions,
    provenance::{self, OwnDomains, Stance},
};
use merpati_mail::Domain;

use super::{
    section::{Default, section},
    setting::Setting,
    values::{Name, Network, Separator},
};

section! {
    /// Which recipients in `relay.local_domains` exist. Others are refused at RCPT with 550 5.1.1,
    /// and never accepted and returned later, to a sender who may be forged. With neither a list
    /// nor `call_ahead` all exist. `postmaster` and `abuse` always do (RFC 5321 §4.5.1).
    Once "recipients" Recipients {
        /// Those that exist: addresses, and domains (`@shop.example`) in which every address does.
        known: Vec<KnownRecipient> = Default::Value("");
        /// A file with more of them, one a line; what follows `#` is a comment. Read at start.
        known_file: Option<PathBuf> = Default::Value("off");
        /// What ends a local part before its extension: with `+`, mail to `ani+list` is for `ani`.
        separator: Option<Separator> = Default::Value("+");
        /// Whether the next hop of the route (SMTP or LMTP, not MX) is asked about those that are
        /// not listed, with MAIL, RCPT and RSET. Where it does not say, strangers are told 451
        /// 4.3.0 (`defer`), or the recipient is taken (`accept`). `off`: it is not asked.
        call_ahead: CallAhead = Default::Value("off");
        /// How long the next hop may take to say.
        wait: Duration = Default::Value("10 s");
        /// How long a recipient that it takes is not asked about again.
        kept_for: Duration = Default::Value("2 h");
        /// How long one that it refuses is not.
        refused_kept_for: Duration = Default::Value("10 min");
        /// How many answers are kept.
        entries_max: NonZeroU32 = Default::Value("100000");
    }
}

section! {
    /// What strangers must show: clients of listeners of kind `relay` (and `rehearsal`) that did
    /// not authenticate and are in no network of `relay.networks`. `docs/strangers.md` says more.
    Once "strangers" Strangers {
        /// Whose names are looked up (PTR, confirmed by the addresses of the name) for the Received
        /// field and the log: `public` leaves out loopback and private addresses, for which the
        /// DNS has no names; `all`; `off`. Only strangers wait for it, at MAIL.
        rdns: Names = Default::Value("public");
        /// Whether the domain of the reverse-path must have MX or address records: `must-exist`
        /// refuses what does not exist with 550 5.1.8, what takes no mail (RFC 7505) with 550
        /// 5.7.27, and what cannot be looked up (SERVFAIL) with 451 4.1.8. Where no resolver
        /// answers, mail is taken. `any` does not look.
        sender_domain: SenderDomain = Default::Value("must-exist");
        /// Networks whose clients are no strangers, although they may send to your domains only:
        /// another MX of yours, a partner.
        known_networks: Vec<Network> = Default::Value("");
        /// How long the questions of one command may take in all; what is not known then is
        /// decided as unknown, and mail is taken.
        wait: Duration = Default::Value("5 s");
    }
}

section! {
    /// Whether the mail of strangers is from whom it says: SPF, DKIM, DMARC, ARC, and the name of
    /// the client. What is found out stands in `Authentication-Results` and `Received-SPF` below
    /// our Received field. `docs/authentication.md` says more.
    Once "authentication" Authentication {
        /// What becomes of mail that neither SPF nor DKIM proves to be from the domain of its
        /// author, where that domain has a DMARC record: `follow` refuses it with 550 5.7.26 if the
        /// record says `p=reject`, and with 451 4.4.3 if the DNS does not answer what could prove
        /// it; `report` takes it, and says so in its header; `off` looks at nothing.
        dmarc: Stance = Default::Value("follow");
        /// Whether mail of strangers from authors in `relay.local_domains` must be proven,
        /// whatever the records of these domains say: `must-pass` refuses it with 550 5.7.26, `any`
        /// does not ask. Mail that your users send to a list elsewhere comes back from a stranger.
        own_domains: OwnDomains = Default::Value("any");
        /// How long all questions about one message may take; what is not known then is unknown.
        wait: Duration = Default::Value("5 s");
    }
}

section! {
    /// What becomes of mail from authors in one domain, and in its subdomains, in place of
    /// `authentication.dmarc`; as often as needed. The nearest domain counts.
    Named "author" AuthorEntry {
        /// The domain.
        domain: Domain = Default::Required;
        /// `follow`, `report` or `off`, as there.
        dmarc: Stance = Default::Required;
    }
}

section! {
    /// A DNS list (RFC 5782) that strangers are looked for in, as often as needed. A list is
    /// believed only while its test points are right; who is in it still reaches the postmaster.
    Named "list" ListEntry {
        /// Its name in replies, rules, logs and metrics; each list has its own.
        name: Name = Default::Required;
        /// Its zone, such as `zen.spamhaus.org`.
        zone: Domain = Default::Required;
        /// What is looked for in it: the address of the `client`, or the `sender-domain`.
        about: ListAbout = Default::Value("client");
        /// The codes that count, as addresses or networks within 127.0.0.0/8. An empty list: all.
        codes: Vec<Network> = Default::Value("");
        /// Whether who is in it is refused with 550 5.7.1, or only noted in the log.
        action: ListAction = Default::Value("refuse");
        /// Whether it has the test points of RFC 5782: 127.0.0.2 and `test` are in it, 127.0.0.1
        /// and `invalid` are not. Set it to false for a list of your own without them.
        test_points: bool = Default::Value("true");
    }
}

section! {
    /// Greylisting (RFC 6647): strangers who write for the first time are told 451 4.7.1, and are
    /// known once they came again. It delays first contacts, and keeps out senders that never try
    /// again.
    Once "greylist" Greylist {
        /// Whether it is done.
        enabled: bool = Default::Value("false");
        /// How long a first contact waits.
        wait: Duration = Default::Value("5 min");
        /// How long after its first try it may come again; later it is a first contact anew.
        retry_within: Duration = Default::Value("24 h");
        /// How long who came again is known after its last message.
        kept_for: Duration = Default::Value("36 d");
        /// How many are remembered, at some 150 octets of memory each; those that wait give way
        /// first.
        entries_max: NonZeroU32 = Default::Value("100000");
    }
}

impl Authentication {
    /// How the wishes of authors' domains are met.
    pub fn rules(&self, entries: &[AuthorEntry]) -> provenance::Rules {
        let by_domain = entries.iter().map(|entry| (entry.domain.clone(), entry.dmarc));
        provenance::Rules {
            stance: self.dmarc,
            by_domain: by_domain.collect(),
            own_domains: self.own_domains,
        }
    }
}

impl Greylist {
    /// The options of the table.
    pub fn options(&self) -> GreylistOptions {
        GreylistOptions {
            wait: self.wait,
            retry_within: self.retry_within,
            kept_for: self.kept_for,
            entries_max: count(self.entries_max),
        }
    }

    /// Whether first contacts wait.
    pub const fn greylisting(&self) -> Greylisting {
        if self.enabled { Greylisting::On } else { Greylisting::Off }
    }
}

impl ListEntry {
    /// The list. Errs where a code is no network, which reading it has shown not to be so.
    pub fn list(&self) -> anyhow::Result<List> {
        let codes = self.codes.iter().map(|network| network.to_string().parse());
        Ok(List {
            name: self.name.as_str().into(),
            zone: self.zone.clone(),
            about: self.about,
            codes: codes.collect::<Result<_, _>>()?,
            action: self.action,
        })
    }
}

impl Recipients {
    /// How recipients are verified. Errs where the file cannot be read, or a line of it is no
    /// recipient.
    pub fn verification(&self) -> io::Result<Verification> {
        let has_list = !self.known.is_empty() || self.known_file.is_some();
        let known = if has_list { Some(self.list()?.into()) } else { None };
        Ok(Verification { known, call_ahead: self.call_ahead })
    }

    fn list(&self) -> io::Result<Known> {
        let mut all = self.known.clone();
        if let Some(path) = &self.known_file {
            let about = |why: String| format!("{}: {why}", path.display());
            let text = fs::read_to_string(path)
                .map_err(|why| io::Error::new(why.kind(), about(why.to_string())))?;
            for (number, line) in text.lines().enumerate() {
                let entry = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
                if entry.is_empty() {
                    continue;
                }
                let entry = KnownRecipient::parse(entry).map_err(|wrong| {
                    let why = about(format!("line {}: {}", number + 1, wrong.why));
                    io::Error::new(io::ErrorKind::InvalidData, why)
                })?;
                all.push(entry);
            }
        }
        Ok(Known::of(all, self.separator.map(|separator| separator.0)))
    }
}

fn count(number: NonZeroU32) -> usize {
    usize::try_from(number.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use merpati_mail::Mailbox;

    use super::*;

    #[test]
    fn a_file_of_recipients_has_comments_and_tells_the_line_of_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recipients");
        let recipients = |known: &str| Recipients {
            known: Vec::parse(known).unwrap(),
            known_file: Some(path.clone()),
            separator: Some(Separator('+')),
            call_ahead: CallAhead::Off,
            wait: Duration::from_secs(1),
            kept_for: Duration::from_secs(1),
            refused_kept_for: Duration::from_secs(1),
            entries_max: NonZeroU32::MIN,
        };
        fs::write(&path, "# ours\n\nani@ours.example # Ani\n  @all.example\r\n").unwrap();
        let known = recipients("budi@ours.example").verification().unwrap().known.unwrap();
        for (address, want) in [
            ("ani+x@ours.example", true),
            ("budi@ours.example", true),
            ("any@all.example", true),
            ("citra@ours.example", false),
        ] {
            assert_eq!(known.has(&Mailbox::parse(address).unwrap()), want, "{address}");
        }
        fs::write(&path, "ani@ours.example\nani@@ours.example\n").unwrap();
        let error = recipients("").verification().unwrap_err().to_string();
        assert!(error.contains("recipients: line 2: not a recipient"), "{error}");
        fs::remove_file(&path).unwrap();
        let error = recipients("").verification().unwrap_err().to_string();
        assert!(error.contains("recipients: "), "{error}");
    }
}
