//! How a connection to a host must be protected: by the route, by what the host's and the
//! recipient's domain publish, and by what the sender wants.
//!
//! Invariants: DANE is looked at before MTA-STS, and what fails it is never mended by MTA-STS (RFC
//! 8461 §2). What could not be found out is never taken for "nothing is published" where DNSSEC
//! says that something may be (RFC 7672 §2.2.1). A name that nobody proved is never compared with a
//! certificate in the name of REQUIRETLS (RFC 8689 §4.2.1). Pure.

use merpati_mail::{TlsDemand, TlsPolicy, TlsSource, header};

use crate::Protection;

/// What is known about a host of a domain, where the hosts were found by MX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Whether DNSSEC proves that it is a host of the domain.
    pub is_host_proven: bool,
    /// What its TLSA records say.
    pub tlsa: Tlsa<'a>,
    /// What MTA-STS of the recipient's domain says of it.
    pub sts: Sts,
}

/// What the TLSA records of a host say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlsa<'a> {
    /// There are none that DNSSEC proves, or they are not looked at.
    None,
    /// There are, and of none of them we know what it means.
    Unusable,
    /// There are, and by one at least a certificate can be judged.
    Usable,
    /// It cannot be found out, for this reason.
    Unknown(&'a str),
}

/// What MTA-STS says of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sts {
    /// There is no policy, or it is in mode `none`, or none is looked at.
    None,
    /// The policy is tested; whether it names the host.
    Testing {
        /// Whether one of its patterns fits.
        is_named: bool,
    },
    /// The policy is in force.
    Enforced {
        /// Whether one of its patterns fits.
        is_named: bool,
    },
}

/// Why a host is not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// MTA-STS does not name it.
    NotNamed,
    /// The sender requires a host with a proven name, and nothing proves this one.
    Unproven,
    /// Its TLSA records cannot be found out, for this reason.
    UnknownTlsa(String),
}

/// How a connection to a host that MX names must be protected, where its route follows what domains
/// publish and asks for `routed` itself; errs where the host must not be tried at all.
pub fn policy(
    wanted: Protection,
    routed: TlsDemand,
    known: &Known<'_>,
) -> Result<TlsPolicy, Withheld> {
    let is_required = match wanted {
        Protection::Waived => {
            return Ok(TlsPolicy { demand: routed, source: TlsSource::TlsNotRequired });
        }
        Protection::AsRouted => false,
        Protection::Verified => true,
    };
    let required = TlsPolicy { demand: TlsDemand::Certified, source: TlsSource::RequireTls };
    match known.tlsa {
        Tlsa::Unknown(why) => return Err(Withheld::UnknownTlsa(why.to_owned())),
        Tlsa::Usable => {
            return Ok(TlsPolicy { demand: TlsDemand::Dane, source: TlsSource::Dane });
        }
        // Encryption without a proof is not what REQUIRETLS asks for.
        Tlsa::Unusable if is_required && known.is_host_proven => return Ok(required),
        Tlsa::Unusable if routed == TlsDemand::Certified => {}
        Tlsa::Unusable => {
            return Ok(TlsPolicy { demand: TlsDemand::Encrypted, source: TlsSource::Dane });
        }
        Tlsa::None => {}
    }
    match known.sts {
        Sts::Enforced { is_named: false } => Err(Withheld::NotNamed),
        Sts::Enforced { is_named: true } => {
            Ok(TlsPolicy { demand: TlsDemand::Certified, source: TlsSource::MtaSts })
        }
        Sts::Testing { is_named: true } if is_required => Ok(required),
        Sts::None | Sts::Testing { .. } if is_required => {
            if known.is_host_proven {
                Ok(required)
            } else {
                Err(Withheld::Unproven)
            }
        }
        Sts::Testing { .. } => Ok(TlsPolicy { demand: routed, source: TlsSource::MtaStsTesting }),
        Sts::None => Ok(TlsPolicy::routed(routed)),
    }
}

/// The same for hosts that the operator names, or where a route does not follow what domains
/// publish.
pub fn routed(wanted: Protection, routed: TlsDemand) -> TlsPolicy {
    match wanted {
        Protection::AsRouted => TlsPolicy::routed(routed),
        Protection::Verified => {
            TlsPolicy { demand: TlsDemand::Certified, source: TlsSource::RequireTls }
        }
        Protection::Waived => TlsPolicy { demand: routed, source: TlsSource::TlsNotRequired },
    }
}

/// Whether a TLSA record is one by which the certificate of a mail server can be judged: of usage 2
/// or 3 (RFC 7672 §3.1.3), with a selector and a form that we know, and data of the right length.
pub const fn is_usable((usage, selector, matching): (u8, u8, u8), data_octets: usize) -> bool {
    let is_known = matches!((usage, selector), (2 | 3, 0 | 1));
    let fits = match matching {
        0 => data_octets > 0,
        1 => data_octets == 32,
        2 => data_octets == 64,
        _ => false,
    };
    is_known && fits
}

/// Whether the header of a message says that its sender would rather have it delivered than
/// protected: `TLS-Required: No`, once (RFC 8689 §5).
pub fn is_waived(header: &[u8]) -> bool {
    let mut fields = header::fields(header).filter(|field| field.is("TLS-Required"));
    match (fields.next(), fields.next()) {
        (Some(only), None) => only.unfolded().eq_ignore_ascii_case("no"),
        (_, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(is_host_proven: bool, tlsa: Tlsa<'_>, sts: Sts) -> Known<'_> {
        Known { is_host_proven, tlsa, sts }
    }

    #[test]
    fn dane_is_asked_before_mta_sts_and_both_before_the_route() {
        use TlsDemand::{Certified, Dane, Encrypted, Opportunistic};
        let enforced = |is_named| Sts::Enforced { is_named };
        let testing = Sts::Testing { is_named: false };
        for (tlsa, sts, want) in [
            (Tlsa::None, Sts::None, Ok((Opportunistic, TlsSource::Route))),
            (Tlsa::Usable, Sts::None, Ok((Dane, TlsSource::Dane))),
            (Tlsa::Usable, enforced(false), Ok((Dane, TlsSource::Dane))),
            (Tlsa::Unusable, Sts::None, Ok((Encrypted, TlsSource::Dane))),
            (Tlsa::Unknown("x"), enforced(true), Err(Withheld::UnknownTlsa("x".to_owned()))),
            (Tlsa::None, enforced(true), Ok((Certified, TlsSource::MtaSts))),
            (Tlsa::None, enforced(false), Err(Withheld::NotNamed)),
            (Tlsa::None, testing, Ok((Opportunistic, TlsSource::MtaStsTesting))),
        ] {
            let got = policy(Protection::AsRouted, Opportunistic, &known(true, tlsa, sts));
            let want = want.map(|(demand, source)| TlsPolicy { demand, source });
            assert_eq!(got, want, "{tlsa:?} {sts:?}");
        }
    }

    /// TLSA records of which none can be used take nothing from a route that wants more.
    #[test]
    fn a_route_that_wants_certificates_gets_no_less() {
        let got = policy(
            Protection::AsRouted,
            TlsDemand::Certified,
            &known(true, Tlsa::Unusable, Sts::None),
        );
        assert_eq!(got, Ok(TlsPolicy::routed(TlsDemand::Certified)));
    }

    #[test]
    fn what_requires_tls_goes_only_to_hosts_whose_names_are_proven() {
        let required = TlsPolicy { demand: TlsDemand::Certified, source: TlsSource::RequireTls };
        let dane = TlsPolicy { demand: TlsDemand::Dane, source: TlsSource::Dane };
        let sts = TlsPolicy { demand: TlsDemand::Certified, source: TlsSource::MtaSts };
        for (known, want) in [
            (known(true, Tlsa::None, Sts::None), Ok(required)),
            (known(true, Tlsa::Unusable, Sts::None), Ok(required)),
            (known(true, Tlsa::Usable, Sts::None), Ok(dane)),
            (known(false, Tlsa::None, Sts::Enforced { is_named: true }), Ok(sts)),
            (known(false, Tlsa::None, Sts::Testing { is_named: true }), Ok(required)),
            (known(false, Tlsa::None, Sts::Testing { is_named: false }), Err(Withheld::Unproven)),
            (known(false, Tlsa::None, Sts::None), Err(Withheld::Unproven)),
        ] {
            assert_eq!(policy(Protection::Verified, TlsDemand::Opportunistic, &known), want);
        }
    }

    #[test]
    fn what_waives_tls_goes_as_the_route_says_whatever_is_published() {
        let all = known(true, Tlsa::Unknown("x"), Sts::Enforced { is_named: false });
        let got = policy(Protection::Waived, TlsDemand::Opportunistic, &all).unwrap();
        assert_eq!(got.demand, TlsDemand::Opportunistic);
    }

    #[test]
    fn only_records_that_we_understand_are_usable() {
        for (record, octets, want) in [
            ((3, 1, 1), 32, true),
            ((3, 1, 2), 64, true),
            ((2, 0, 0), 800, true),
            ((3, 1, 0), 0, false),
            ((3, 1, 1), 31, false),
            ((3, 1, 2), 32, false),
            ((0, 1, 1), 32, false),
            ((1, 1, 1), 32, false),
            ((255, 1, 1), 32, false),
            ((3, 9, 1), 32, false),
            ((3, 1, 9), 32, false),
        ] {
            assert_eq!(is_usable(record, octets), want, "{record:?} {octets}");
        }
    }

    #[test]
    fn only_one_field_that_says_no_waives_tls() {
        for (header, want) in [
            ("TLS-Required: No\r\n\r\n", true),
            ("tls-required:\r\n NO \r\n\r\n", true),
            ("TLS-Required: Yes\r\n\r\n", false),
            ("TLS-Required: No\r\nTLS-Required: No\r\n\r\n", false),
            ("Subject: x\r\n\r\nTLS-Required: No\r\n", false),
        ] {
            assert_eq!(is_waived(header.as_bytes()), want, "{header:?}");
        }
    }
}
