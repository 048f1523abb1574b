//! The words in which a person is told why, and what to do: one sentence for each class of cause.
//!
//! Pure: a table.

use merpati_mail::Class;

use crate::outcome::Voice;

/// What is wrong, as its sender understands it.
pub(super) const fn reason(class: Class) -> &'static str {
    match class {
        Class::Ambiguous => {
            "The connection ended before the recipient's mail server confirmed the message. It may \
             have arrived all the same."
        }
        Class::AuthTrouble => {
            "The next mail server does not accept our login, or wants one that we do not have."
        }
        Class::Blocked => "The recipient's mail server does not accept mail from our address.",
        Class::Busy => "The recipient's mail server is too busy, or being restarted.",
        Class::Connection => "The recipient's mail server could not be reached.",
        Class::Content => "The recipient's mail server does not accept the content of the message.",
        Class::Dns => "The mail server of the recipient's domain could not be looked up in DNS.",
        Class::DomainUnknown => {
            "The recipient's domain does not exist, or has no server that takes mail."
        }
        Class::Expired => "It could not be delivered in all the time for which we try.",
        Class::Greylisted => "The recipient's mail server asks new senders to come again later.",
        Class::Held => "The operator of our mail server holds the message.",
        Class::Lacks => {
            "The recipient's mail server cannot take a message of this kind, such as one with \
             an address in other than Latin letters."
        }
        Class::Loop => "The message goes round in circles between mail servers.",
        Class::MailboxDisabled => "The recipient's mailbox is disabled or takes no mail.",
        Class::MailboxFull => "The recipient's mailbox is full.",
        Class::MailboxUnknown => "There is no such mailbox at the recipient's domain.",
        Class::NoRoute => "Our mail server does not know where mail for this domain goes.",
        Class::NotTried => "The message has not been tried yet.",
        Class::NullMx => "The recipient's domain says that it takes no mail at all.",
        Class::Policy => "A rule of the recipient's mail server does not let the message in.",
        Class::Protocol => "The recipient's mail server answers in a way that makes no sense.",
        Class::RouteRefused => "A rule of our own mail server does not let the message go there.",
        Class::Sender => {
            "The recipient's mail server does not accept you as the sender, or could not tell that \
             the message is really from your domain."
        }
        Class::Throttled => "The recipient's mail server asks us to send more slowly.",
        Class::TimedOut => "The recipient's mail server did not answer in time.",
        Class::Tls => {
            "The recipient's mail server could not be reached over a protected connection."
        }
        Class::TooLarge => "The message is larger than the recipient's mail server takes.",
        Class::TooManyRecipients => "The message has more recipients than the mail server takes.",
        Class::Trouble => "The recipient's mail server has trouble of its own.",
        Class::Unreadable => "Our mail server cannot read the message from its disk.",
        Class::UnknownPermanent => "The recipient's mail server refused the message.",
        Class::UnknownTransient => "The recipient's mail server did not take the message yet.",
    }
}

/// What the sender can do about a failure that is told in these words.
pub(super) fn advice(class: Class, voice: Voice) -> String {
    let see_below = match (is_unclear(class), voice) {
        (true, Voice::Host) => SEE_BELOW,
        (true, Voice::Ours) | (false, _) => "",
    };
    format!("{}{see_below}", what_to_do(class))
}

/// Whether the sender learns more from what a server said.
const fn is_unclear(class: Class) -> bool {
    matches!(
        class,
        Class::Busy
            | Class::Connection
            | Class::Dns
            | Class::Expired
            | Class::Greylisted
            | Class::Held
            | Class::NotTried
            | Class::Protocol
            | Class::Throttled
            | Class::TimedOut
            | Class::Tls
            | Class::Trouble
            | Class::UnknownPermanent
            | Class::UnknownTransient
    )
}

const fn what_to_do(class: Class) -> &'static str {
    match class {
        Class::MailboxUnknown | Class::DomainUnknown | Class::NullMx => {
            "Check the address for mistakes in writing, or ask the recipient for another one."
        }
        Class::MailboxFull => "Tell the recipient by other means, and send it again later.",
        Class::MailboxDisabled => "Ask the recipient by other means for another address.",
        Class::TooLarge => "Send a smaller message, or put the files where they can be fetched.",
        Class::Content => {
            "Look at what the server said below. Links and attached files are the most frequent \
             reason."
        }
        Class::Lacks => {
            "Ask the recipient for an address in Latin letters, or send it in another form."
        }
        Class::TooManyRecipients => "Send it to fewer recipients at once.",
        Class::Blocked
        | Class::Sender
        | Class::Policy
        | Class::RouteRefused
        | Class::AuthTrouble
        | Class::NoRoute
        | Class::Unreadable
        | Class::Loop => "Show this report to your postmaster, who can do something about it.",
        Class::Ambiguous => "Ask the recipient whether it arrived before you send it again.",
        Class::Busy
        | Class::Connection
        | Class::Dns
        | Class::Expired
        | Class::Greylisted
        | Class::Held
        | Class::NotTried
        | Class::Protocol
        | Class::Throttled
        | Class::TimedOut
        | Class::Tls
        | Class::Trouble
        | Class::UnknownPermanent
        | Class::UnknownTransient => "Send it again later, or tell the recipient by other means.",
    }
}

/// Subject and detail of the status code of a failure whose reply had none (RFC 3463 §3).
pub(super) const fn status(class: Class) -> (u16, u16) {
    match class {
        Class::MailboxUnknown => (1, 1),
        Class::DomainUnknown => (1, 2),
        Class::NullMx => (1, 10),
        Class::MailboxDisabled => (2, 1),
        Class::MailboxFull => (2, 2),
        Class::Trouble | Class::Unreadable => (3, 0),
        Class::TooLarge => (3, 4),
        Class::Connection => (4, 1),
        Class::Ambiguous | Class::Busy | Class::TimedOut => (4, 2),
        Class::Dns => (4, 3),
        Class::NoRoute => (4, 4),
        Class::Loop => (4, 6),
        Class::Expired => (4, 7),
        Class::Protocol => (5, 0),
        Class::TooManyRecipients => (5, 3),
        Class::Content => (6, 0),
        Class::Lacks => (6, 3),
        Class::AuthTrouble | Class::Tls => (7, 0),
        Class::Blocked
        | Class::Greylisted
        | Class::Policy
        | Class::RouteRefused
        | Class::Sender
        | Class::Throttled => (7, 1),
        Class::Held | Class::NotTried | Class::UnknownPermanent | Class::UnknownTransient => (0, 0),
    }
}

/// Where a server has said something.
const SEE_BELOW: &str = " What the server said is below.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn is_told_well(text: &str) -> bool {
        text.is_ascii() && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.ends_with('.')
    }

    #[test]
    fn each_class_has_a_sentence_of_its_own_and_something_to_do() {
        let told: BTreeSet<_> = Class::ALL.iter().map(|class| reason(*class)).collect();
        assert_eq!(told.len(), Class::ALL.len());
        for &class in Class::ALL {
            assert!(is_told_well(reason(class)), "{class:?}: {}", reason(class));
            for voice in [Voice::Host, Voice::Ours] {
                let advice = advice(class, voice);
                assert!(is_told_well(&advice), "{class:?}: {advice}");
            }
        }
    }

    #[test]
    fn only_what_a_host_said_is_pointed_at() {
        for &class in Class::ALL {
            let (host, ours) = (advice(class, Voice::Host), advice(class, Voice::Ours));
            assert_eq!(host != ours, is_unclear(class), "{class:?}");
            assert!(host.starts_with(&ours) && !ours.contains(SEE_BELOW), "{class:?}");
        }
    }

    #[test]
    fn status_codes_are_those_of_the_registry() {
        // The subjects and details that RFC 3463, RFC 7505 and RFC 7504 register, and that fit.
        let highest = [0, 10, 4, 5, 7, 6, 10, 14];
        for &class in Class::ALL {
            let (subject, detail) = status(class);
            let highest = highest.get(usize::from(subject));
            assert!(highest.is_some_and(|highest| detail <= *highest), "{class:?}");
        }
        assert_eq!(status(Class::MailboxUnknown), (1, 1));
        assert_eq!(status(Class::NullMx), (1, 10));
        assert_eq!(status(Class::Expired), (4, 7));
    }
}
