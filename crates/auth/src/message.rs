//! A message as those see it who check it: fields, signatures, and where its body begins.
//!
//! Pure.

use mail_auth::{AuthenticatedMessage, dkim::Canonicalization};

use crate::{
    arc::Chain,
    body::{BodyHasher, Canonical},
    dkim::SignatureField,
    sign::FORM,
    tags::without_signature,
};

/// A message whose signatures may be checked.
#[derive(Debug)]
pub struct Message<'a> {
    pub(crate) fields: Fields<'a>,
    pub(crate) signatures: Vec<SignatureField<'a>>,
    pub(crate) chain: Chain<'a>,
    body_start: usize,
}

impl<'a> Message<'a> {
    /// Reads the header of a message; `head` is its beginning with the whole header.
    ///
    /// At most [`crate::dkim::SIGNATURES_MAX`] signatures are looked at, from the top.
    pub fn read(head: &'a [u8]) -> Self {
        let body_start = body_start(head);
        let header = head.get(..body_start).unwrap_or(head);
        // Limits of signatures are judged by us, hence not strictly.
        let parsed = AuthenticatedMessage::parse_with_opts(header, None, false);
        let mut parsed = parsed.unwrap_or_default();
        // `Subject : x` is a Subject to every reader; the library would not find it.
        for (name, _) in &mut parsed.headers {
            *name = name.trim_ascii();
        }
        let fields = Fields(parsed);
        let signatures = SignatureField::all(&fields);
        let chain = Chain::read(&fields);
        Self { fields, signatures, chain, body_start }
    }

    /// The first octet of the body.
    pub const fn body_start(&self) -> usize {
        self.body_start
    }

    /// What hashes the body as a signature of ours wants it.
    pub fn signing_hasher() -> BodyHasher {
        BodyHasher::new([FORM])
    }

    /// What hashes the body as the signatures want it.
    pub fn body_hasher(&self) -> BodyHasher {
        let signatures = self.signatures.iter().filter_map(SignatureField::wanted);
        BodyHasher::new(signatures.chain(self.chain.wanted()))
    }
}

/// The fields of a header: names as they are written, and all behind the colon with its line end.
#[derive(Debug)]
pub(crate) struct Fields<'a>(AuthenticatedMessage<'a>);

impl<'a> Fields<'a> {
    /// The values of the fields of this name, in any case, from the top.
    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let is = move |found: &[u8]| found.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        self.0.headers.iter().copied().filter(move |(found, _)| is(found))
    }

    /// The fields of these names in the relaxed form.
    pub(crate) fn canonical(&self, names: &[String]) -> Vec<u8> {
        let mut octets = Vec::with_capacity(1 << 10);
        let none: (&[u8], &[u8]) = (b"", b"");
        let fields = self.0.signed_headers(names, none.0, none.1).filter(|field| *field != none);
        Canonicalization::Relaxed.canonicalize_headers(fields, &mut octets);
        octets
    }

    /// What a signature over these names signs (RFC 6376 §3.7): of several fields of a name the
    /// lower ones first, and last the signature field itself without what it says of itself.
    pub(crate) fn signed(
        &self,
        names: &[String],
        (name, value): (&[u8], &[u8]),
        canonical: Canonical,
    ) -> Vec<u8> {
        let stripped = without_signature(without_line_end(value));
        let mut octets = Vec::with_capacity(1 << 10);
        let fields = self.0.signed_headers(names, name, &stripped);
        library(canonical).canonicalize_headers(fields, &mut octets);
        octets
    }
}

/// The first octet behind the first empty line; all, where there is none.
fn body_start(head: &[u8]) -> usize {
    let mut start = 0;
    for line in head.split_inclusive(|octet| *octet == b'\n') {
        start += line.len();
        if matches!(line, b"\r\n" | b"\n") {
            break;
        }
    }
    start
}

/// The word of the library.
pub(crate) const fn library(canonical: Canonical) -> Canonicalization {
    match canonical {
        Canonical::Relaxed => Canonicalization::Relaxed,
        Canonical::Simple => Canonicalization::Simple,
    }
}

pub(crate) const fn ours(canonical: Canonicalization) -> Canonical {
    match canonical {
        Canonicalization::Relaxed => Canonical::Relaxed,
        Canonicalization::Simple => Canonical::Simple,
    }
}

pub(crate) fn without_line_end(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    value.strip_suffix(b"\r").unwrap_or(value)
}
