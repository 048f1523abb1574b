//! Which services `master.cf` has, and what each sets for itself.
//!
//! Pure.

use std::rc::Rc;

use super::{
    main_cf::{Assignment, Assignments, assignment},
    text::{Logical, Place, arguments, logical_lines, without_braces},
};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// A name of a service or a port for `inet`, with an address or without; else any name.
    pub name: String,
    /// `inet`, `unix`, `pass` and others.
    pub kind: String,
    /// The program without its folder.
    pub command: String,
    /// What `-o` sets.
    pub own: Assignments,
    /// Where it stands.
    pub place: Place,
}

/// The services of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct MasterCf {
    /// In their order.
    pub services: Vec<Service>,
    /// What is no service.
    pub unread: Vec<(Place, String)>,
}

impl MasterCf {
    /// Reads the text of the file; `name` is how places call it.
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let file: Rc<str> = name.into();
        let mut read = Self::default();
        for line in logical_lines(text) {
            if let Some(service) = service(&file, &line) {
                read.services.push(service);
            } else {
                let place = Place { file: Rc::clone(&file), line: line.line() };
                read.unread.push((place, line.text()));
            }
        }
        read
    }

    /// The service of this name that takes mail from the queue, as `smtp unix … smtp`.
    pub(super) fn transport(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name && service.kind != "inet")
    }
}

/// Name, type, private, unprivileged, chroot, wakeup, limit of processes, command and arguments.
fn service(file: &Rc<str>, line: &Logical) -> Option<Service> {
    let text = line.text();
    let mut words = arguments(&text).into_iter();
    let (name, kind) = (words.next()?, words.next()?);
    let mut rest = words.skip(5);
    let command = rest.next()?;
    let command = command.rsplit('/').next().unwrap_or_default().to_owned();
    let mut own = Assignments::new();
    while let Some(word) = rest.next() {
        let set = match word.strip_prefix("-o") {
            Some("") => rest.next(),
            Some(set) => Some(set.to_owned()),
            None => None,
        };
        let Some((name, raw)) = set.and_then(|set| assignment(without_braces(&set))) else {
            continue;
        };
        let place = Place { file: Rc::clone(file), line: line.line_of(&name) };
        own.insert(name, Assignment { raw, place });
    }
    let place = Place { file: Rc::clone(file), line: line.line() };
    Some(Service { name, kind, command, own, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_read_with_what_they_set_in_each_form() {
        let text = "\
# comment
smtp      inet  n       -       y       -       -       smtpd
submission inet n - y - - /usr/lib/postfix/sbin/smtpd
  -o syslog_name=postfix/submission
  # -o gone=yes
  -o { smtpd_relay_restrictions = permit_sasl_authenticated, reject }
  -osmtpd_tls_security_level=encrypt -v
broken line
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -d ${recipient}
";
        let read = MasterCf::parse("master.cf", text);
        let shown: Vec<String> = read
            .services
            .iter()
            .map(|service| {
                let own: Vec<String> = service
                    .own
                    .iter()
                    .map(|(name, set)| format!("{name}={}@{}", set.raw, set.place))
                    .collect();
                let Service { name, kind, command, .. } = service;
                format!("{name} {kind} {command} {}", own.join(" "))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "smtp inet smtpd ",
                "submission inet smtpd smtpd_relay_restrictions=permit_sasl_authenticated, \
                 reject@master.cf:6 smtpd_tls_security_level=encrypt@master.cf:7 \
                 syslog_name=postfix/submission@master.cf:4",
                "maildrop unix pipe ",
            ]
        );
        assert_eq!(read.unread[0].0.to_string(), "master.cf:8");
        assert!(read.transport("smtp").is_none(), "a listener is no transport");
    }
}
