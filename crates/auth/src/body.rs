//! The hashes of a body in its canonical forms (RFC 6376 §3.4.3, §3.4.4).
//!
//! Ours and not the library's: that one counts the blanks of lines at the end of a body, hashes
//! other octets than a limit in a signature means, and wants the whole body at once. Invariant: a
//! body is hashed as it comes, in constant memory, whatever pieces it comes in. Pure.

use aws_lc_rs::digest::{Context, SHA256};

use crate::sign::FORM;

/// How a header or body is made alike before it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Canonical {
    /// Blanks do not count.
    Relaxed,
    /// Octet by octet, but for empty lines at the end.
    Simple,
}

/// The SHA-256 of one canonical form of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash {
    /// The hash.
    pub hash: [u8; 32],
    /// Octets of the canonical form.
    pub octets: u64,
}

/// Which hash of a body: of which form, and of how many octets of it (`l=`); `None`: all.
pub(crate) type Wanted = (Canonical, Option<u64>);

/// Hashes a body as it comes.
#[derive(Clone)]
pub struct BodyHasher(Vec<(Wanted, Form)>);

impl std::fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(wanted, _)| wanted)).finish()
    }
}

/// The hashes that somebody wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BodyHashes(Vec<(Wanted, BodyHash)>);

impl BodyHasher {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let mut forms: Vec<(Wanted, Form)> = Vec::new();
        for (canonical, limit) in wanted {
            if !forms.iter().any(|(it, _)| *it == (canonical, limit)) {
                forms.push(((canonical, limit), Form::new(canonical, limit)));
            }
        }
        Self(forms)
    }

    /// The same, and the hash that a signature of ours holds.
    #[must_use]
    pub fn and_signing(mut self) -> Self {
        if !self.0.iter().any(|(wanted, _)| *wanted == FORM) {
            self.0.push((FORM, Form::new(FORM.0, FORM.1)));
        }
        self
    }

    /// Whether nobody wants a hash: then there is no need to push anything.
    pub fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        for (_, form) in &mut self.0 {
            form.push(octets);
        }
    }

    /// The hashes.
    pub fn finish(self) -> BodyHashes {
        BodyHashes(self.0.into_iter().map(|(wanted, form)| (wanted, form.finish())).collect())
    }
}

impl BodyHashes {
    /// The hash that a signature of ours holds; `None` where it was not asked for.
    pub fn signing(&self) -> Option<BodyHash> {
        self.get(FORM)
    }

    /// The hash of a form; `None` where nobody wanted it.
    pub(crate) fn get(&self, wanted: Wanted) -> Option<BodyHash> {
        self.0.iter().find(|(it, _)| *it == wanted).map(|(_, hash)| *hash)
    }
}

/// One canonical form that grows.
#[derive(Clone)]
struct Form {
    canonical: Canonical,
    context: Context,
    /// How many octets go into the hash.
    limit: u64,
    /// Octets of the form so far.
    octets: u64,
    /// Line ends that only count if a line that is not empty follows.
    line_ends: u64,
    /// Relaxed: whether blanks came that count only if something follows on the line.
    has_blank: bool,
    /// Whether a CR came last, of which is not known yet whether it ends a line.
    has_cr: bool,
}

impl Form {
    fn new(canonical: Canonical, limit: Option<u64>) -> Self {
        Self {
            canonical,
            context: Context::new(&SHA256),
            limit: limit.unwrap_or(u64::MAX),
            octets: 0,
            line_ends: 0,
            has_blank: false,
            has_cr: false,
        }
    }

    fn push(&mut self, octets: &[u8]) {
        let mut rest = octets;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.has_cr) {
                if *first == b'\n' {
                    self.end_line();
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                }
                // A lone CR is an octet like others.
                self.text(b"\r");
            }
            let (text, behind) = rest.split_at(self.run(rest));
            if !text.is_empty() {
                self.text(text);
            }
            match behind.first() {
                Some(b'\r') => self.has_cr = true,
                Some(_) => self.has_blank = true,
                None => {}
            }
            rest = behind.get(1..).unwrap_or_default();
        }
    }

    /// How many octets from here on go into the hash as they are.
    fn run(&self, octets: &[u8]) -> usize {
        if self.canonical == Canonical::Simple {
            return octets.iter().position(|octet| *octet == b'\r').unwrap_or(octets.len());
        }
        let mut before = b' ';
        let mut rest = octets.iter().enumerate().peekable();
        while let Some((at, octet)) = rest.next() {
            match octet {
                b'\r' | b'\t' => return at,
                // A single space within a line stays as it is; most are.
                b' ' => {
                    let behind = rest.peek().map_or(b' ', |(_, octet)| **octet);
                    if before == b' ' || matches!(behind, b' ' | b'\t' | b'\r') {
                        return at;
                    }
                }
                _ => {}
            }
            before = *octet;
        }
        octets.len()
    }

    /// Octets that are neither blanks of the relaxed form nor line ends.
    fn text(&mut self, text: &[u8]) {
        self.write_line_ends();
        if std::mem::take(&mut self.has_blank) {
            self.write(b" ");
        }
        self.write(text);
    }

    fn end_line(&mut self) {
        self.has_blank = false;
        self.line_ends += 1;
    }

    fn write_line_ends(&mut self) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.write(b"\r\n");
        }
    }

    fn write(&mut self, octets: &[u8]) {
        let room = self.limit.saturating_sub(self.octets).min(octets.len() as u64);
        let counted = usize::try_from(room).unwrap_or(octets.len());
        self.context.update(octets.get(..counted).unwrap_or(octets));
        self.octets += octets.len() as u64;
    }

    fn finish(mut self) -> BodyHash {
        if std::mem::take(&mut self.has_cr) {
            self.text(b"\r");
        }
        // Lines at the end that are empty do not count; a body ends with a line end, and the empty
        // one is a line end in the simple form and nothing in the relaxed.
        let is_empty = self.octets == 0;
        if !is_empty || self.canonical == Canonical::Simple {
            self.write(b"\r\n");
        }
        let mut hash = [0; 32];
        let digest = self.context.finish();
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        BodyHash { hash, octets: self.octets }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;
    use proptest::prelude::*;

    use super::*;

    fn hash(canonical: Canonical, limit: Option<u64>, pieces: &[&[u8]]) -> BodyHash {
        let mut hasher = BodyHasher::new([(canonical, limit)]);
        for piece in pieces {
            hasher.push(piece);
        }
        hasher.finish().get((canonical, limit)).unwrap()
    }

    #[track_caller]
    fn check(canonical: Canonical, body: &str, want: &str) {
        let got = hash(canonical, None, &[body.as_bytes()]);
        let wanted = digest(&SHA256, want.as_bytes());
        assert_eq!(got.octets, want.len() as u64, "{body:?}");
        assert_eq!(&got.hash, wanted.as_ref(), "{body:?}");
    }

    #[test]
    fn the_simple_form_ends_with_one_line_end() {
        for (body, want) in [
            ("", "\r\n"),
            ("\r\n\r\n", "\r\n"),
            ("a", "a\r\n"),
            ("a\r\n", "a\r\n"),
            ("a\r\n\r\n\r\n", "a\r\n"),
            (" c  \r\n d\t\r\n \r\n", " c  \r\n d\t\r\n \r\n"),
            ("a\r", "a\r\r\n"),
            ("a\nb\r\n", "a\nb\r\n"),
        ] {
            check(Canonical::Simple, body, want);
        }
    }

    #[test]
    fn the_relaxed_form_forgets_blanks_and_lines_of_blanks_at_its_end() {
        for (body, want) in [
            ("", ""),
            ("\r\n\r\n", ""),
            (" \t\r\n  \r\n", ""),
            (" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
            ("a\r\n \r\nb\r\n\t\r\n", "a\r\n\r\nb\r\n"),
            ("a  \r\n", "a\r\n"),
            ("a", "a\r\n"),
            ("a ", "a\r\n"),
            ("  a", " a\r\n"),
        ] {
            check(Canonical::Relaxed, body, want);
        }
    }

    #[test]
    fn a_limit_counts_octets_of_the_form() {
        let whole = hash(Canonical::Relaxed, None, &[b"a  b\r\n"]);
        let part = hash(Canonical::Relaxed, Some(5), &[b"a \t b\r\nmore\r\n"]);
        assert_eq!(part.hash, whole.hash);
        assert_eq!((whole.octets, part.octets), (5, 11));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            body in "[ab \t\r\n]{0,40}",
            at in 0_usize..40,
            limit in proptest::option::of(0_u64..40),
        ) {
            let body = body.as_bytes();
            let (first, second) = body.split_at(at.min(body.len()));
            for canonical in [Canonical::Relaxed, Canonical::Simple] {
                prop_assert_eq!(
                    hash(canonical, limit, &[body]),
                    hash(canonical, limit, &[first, second])
                );
            }
        }
    }
}
