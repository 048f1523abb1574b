//! How a connection to a next hop must be protected, and who asks for that.
//!
//! Invariant: the numbers stand in the journal and are never given another meaning. Pure.

/// What protection a connection must have, and who asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// What.
    pub demand: TlsDemand,
    /// Who.
    pub source: TlsSource,
}

macro_rules! words {
    (
        $(#[$about:meta])* $name:ident {
            $($(#[$doc:meta])* $case:ident = $number:literal, $word:literal;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $case,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$case,)*];

            /// The word for it in logs and the API.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$case => $word,)* }
            }

            /// The number that stands for it in the journal.
            pub const fn number(self) -> u8 {
                match self { $(Self::$case => $number,)* }
            }

            /// What this number stands for; `None`: nothing.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$case),)* _ => None }
            }

            /// What has this word; `None`: nothing.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.word() == word)
            }
        }
    };
}

words! {
    /// What protection a connection must have, the weakest first.
    TlsDemand {
        /// None: it goes in the clear.
        Clear = 0, "clear";
        /// TLS where the host can do it, with any certificate; else the clear (RFC 7435).
        Opportunistic = 1, "opportunistic";
        /// TLS, with any certificate.
        Encrypted = 2, "encrypted";
        /// TLS, with a certificate for the name of the host from a CA that is trusted.
        Certified = 3, "certified";
        /// TLS, with a certificate that TLSA records of the host name (RFC 7672).
        Dane = 4, "dane";
    }
}

words! {
    /// Who asks for the protection of a connection.
    TlsSource {
        /// The route.
        Route = 0, "route";
        /// The domain of the host, by TLSA records that DNSSEC proves (RFC 7672).
        Dane = 1, "dane";
        /// The domain of the recipient, by MTA-STS in mode `enforce` (RFC 8461).
        MtaSts = 2, "mta-sts";
        /// The same in mode `testing`: what goes wrong is only reported.
        MtaStsTesting = 3, "mta-sts-testing";
        /// The sender, by REQUIRETLS (RFC 8689 §4).
        RequireTls = 4, "requiretls";
        /// The sender, who would rather have it delivered than protected (`TLS-Required: No`,
        /// RFC 8689 §5).
        TlsNotRequired = 5, "tls-required-no";
    }
}

impl TlsPolicy {
    /// As a route asks.
    pub const fn routed(demand: TlsDemand) -> Self {
        Self { demand, source: TlsSource::Route }
    }

    /// Who asks for more than the route does, as a noun; `None`: nobody.
    pub const fn asks(self) -> Option<&'static str> {
        match self.source {
            TlsSource::Dane => Some("DANE: the host has TLSA records, proven by DNSSEC"),
            TlsSource::MtaSts => Some("the MTA-STS policy of the recipient's domain"),
            TlsSource::RequireTls => Some("the sender (REQUIRETLS)"),
            TlsSource::MtaStsTesting | TlsSource::Route | TlsSource::TlsNotRequired => None,
        }
    }

    /// Who asks, in words that go on a sentence about a connection; `None` where it is the route.
    pub const fn because(self) -> Option<&'static str> {
        match (self.source, self.demand) {
            (TlsSource::Route, _) => None,
            (TlsSource::Dane, TlsDemand::Encrypted) => {
                Some("encrypted because the host has TLSA records, of which we can use none")
            }
            (TlsSource::Dane, _) => Some("proven by DANE"),
            (TlsSource::MtaSts, _) => Some("proven as MTA-STS asks"),
            (TlsSource::MtaStsTesting, _) => Some("MTA-STS is being tested there"),
            (TlsSource::RequireTls, _) => Some("proven as the sender requires"),
            (TlsSource::TlsNotRequired, _) => Some("the sender does not require TLS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_number_and_a_word_of_its_own() {
        for &demand in TlsDemand::ALL {
            assert_eq!(TlsDemand::from_number(demand.number()), Some(demand));
            assert_eq!(TlsDemand::from_word(demand.word()), Some(demand));
        }
        for &source in TlsSource::ALL {
            assert_eq!(TlsSource::from_number(source.number()), Some(source));
            assert_eq!(TlsSource::from_word(source.word()), Some(source));
        }
        let words: BTreeSet<&str> = TlsSource::ALL.iter().map(|it| it.word()).collect();
        assert_eq!(words.len(), TlsSource::ALL.len());
        assert_eq!((TlsDemand::from_number(9), TlsSource::from_number(9)), (None, None));
    }
}
