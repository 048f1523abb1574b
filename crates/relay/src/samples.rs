//! Values that the tests of several modules begin with.

use merpati_mail::{
    BodyType, Envelope, ForwardPath, Origin, Overlay, Protocol, QueueId, Recipient, Requests,
    ReversePath, Time, envelope::Utf8, event::Accepted,
};

/// A message of three octets from nobody to the postmaster.
pub(crate) fn accepted(id: QueueId) -> Accepted {
    Accepted {
        id,
        envelope: Envelope {
            reverse_path: ReversePath(None),
            recipients: vec![Recipient::new(ForwardPath::Postmaster)],
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: None,
                credential: None,
                protocol: Protocol::Internal,
                tls: None,
                received_at: Time::EPOCH,
            },
        },
        edits: Overlay::default(),
        size_bytes: 3,
    }
}

/// A configuration of this text.
pub(crate) fn config(text: &str) -> crate::config::Config {
    let source = crate::config::Source { name: "merpati.toml".to_owned(), text: text.to_owned() };
    crate::config::Config::of(vec![source], &std::collections::BTreeMap::new(), &[]).unwrap()
}
