//! Answers of signed zones that are good, and that the library calls bogus.
//!
//! It takes each denial that lies beside an answer for a proof of that answer. Yet name servers add
//! denials of their own (Unbound one for the end of an alias), and the one that a wildcard needs
//! may be owned by the wildcard itself (RFC 4035 §5.3.4).
//!
//! Invariant: what is believed here has signatures that the library has verified, or lies in a zone
//! that provably has none; and where a wildcard answered, a verified denial of all closer names.
//! Not pure: [`Second`] asks name servers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{
    NameServerPool, PoolContext, TlsConfig,
    config::{NameServerConfig, ResolverOpts},
    lookup::Lookup,
    net::{
        DnsError, NetError,
        dnssec::DnssecDnsHandle,
        runtime::TokioRuntimeProvider,
        xfer::{DnsHandle as _, FirstAnswer as _},
    },
    proto::{
        dnssec::{
            Proof, TrustAnchors,
            rdata::{DNSSECRData, NSEC, RRSIG},
        },
        op::{DnsRequestOptions, Message, Query},
        rr::{Name, RData, Record, RecordType},
    },
};

/// A second look at what was called bogus. It asks anew, for the library does not hand over what
/// it rejects, but at this depth.
#[derive(Clone)]
pub(super) struct Second {
    handle: DnssecDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    options: DnsRequestOptions,
}

impl Second {
    pub(super) fn new(
        servers: &[NameServerConfig],
        options: &ResolverOpts,
        anchors: Arc<TrustAnchors>,
    ) -> anyhow::Result<Self> {
        let context = Arc::new(PoolContext::new(options.clone(), TlsConfig::new()?));
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(servers.iter().cloned(), context, provider);
        let handle = DnssecDnsHandle::with_trust_anchor(pool, anchors);
        let mut request = DnsRequestOptions::default();
        request.use_edns = true;
        request.edns_set_dnssec_ok = true;
        request.edns_payload_len = options.edns_payload_len;
        Ok(Self { handle, options: request })
    }

    /// The records, where they are good after all.
    pub(super) async fn look(&self, name: &Name, kind: RecordType) -> Option<Lookup> {
        let query = Query::query(name.clone(), kind);
        let response = match self.handle.lookup(query.clone(), self.options).first_answer().await {
            Err(NetError::Dns(DnsError::Nsec { response, .. })) => *response,
            Ok(response) => response,
            Err(_) => return None,
        };
        answer(&query, &response, Instant::now())
    }
}

/// The records that were asked for, with the aliases on the way to them. `None` where there are
/// none, or where one of them is not proven.
fn answer(query: &Query, response: &Message, now: Instant) -> Option<Lookup> {
    let mut at = query.name();
    let mut chain = Vec::new();
    for _ in 0..=response.answers.len() {
        let found = rrset(&response.answers, at, query.query_type())
            .or_else(|| rrset(&response.answers, at, RecordType::CNAME))?;
        if !is_believed(&found, response) {
            return None;
        }
        chain.extend(found.iter().copied());
        let [Record { data: RData::CNAME(alias), .. }] = found[..] else { break };
        if query.query_type() == RecordType::CNAME {
            break;
        }
        at = &alias.0;
    }
    let is_answered = chain.last().is_some_and(|last| last.record_type() == query.query_type());
    let ttl = chain.iter().map(|record| record.ttl).min().filter(|_| is_answered)?;
    let until = now + Duration::from_secs(ttl.into());
    Some(Lookup::new_with_deadline(query.clone(), chain.into_iter().cloned(), until))
}

/// The records of this type at this name; `None` for none.
fn rrset<'a>(records: &'a [Record], name: &Name, kind: RecordType) -> Option<Vec<&'a Record>> {
    let is_it = |record: &&Record| record.name == *name && record.record_type() == kind;
    let found: Vec<&Record> = records.iter().filter(is_it).collect();
    (!found.is_empty()).then_some(found)
}

fn is_believed(rrset: &[&Record], response: &Message) -> bool {
    let Some(first) = rrset.first() else { return false };
    if rrset.iter().all(|record| record.proof == Proof::Insecure) {
        return true;
    }
    let labels = first.name.num_labels();
    let wildcards = signatures(&response.answers, &first.name, first.record_type())
        .map(|signature| signature.input().num_labels)
        .filter(|signed| *signed < labels);
    rrset.iter().all(|record| record.proof == Proof::Secure)
        && wildcards.into_iter().all(|signed| is_closest(&first.name, signed, response))
}

/// Whether no name is closer to this one than the wildcard with so many labels behind its star: a
/// denial covers the name with one label more.
fn is_closest(name: &Name, labels: u8, response: &Message) -> bool {
    let next_closer = name.trim_to(usize::from(labels) + 1);
    response.authorities.iter().any(|record| {
        let RData::DNSSEC(DNSSECRData::NSEC(denial)) = &record.data else { return false };
        // One that came of a wildcard itself is not verified.
        record.proof == Proof::Secure && covers(&record.name, denial, &next_closer)
    })
}

/// Whether a denial says that there is no such name, and nothing below it.
fn covers(owner: &Name, denial: &NSEC, name: &Name) -> bool {
    // The parent of a zone knows nothing of what is in it (RFC 6840 §4.1).
    if denial.is_ancestor_delegation() && owner.zone_of(name) {
        return false;
    }
    let next = denial.next_domain_name();
    let is_last = next <= owner;
    let is_before_next = name < next && !name.zone_of(next);
    owner < name && if is_last { next.zone_of(name) } else { is_before_next }
}

/// The signatures over the records of this type at this name.
fn signatures<'a>(
    records: &'a [Record],
    name: &Name,
    kind: RecordType,
) -> impl Iterator<Item = &'a RRSIG> {
    records.iter().filter(move |record| record.name == *name).filter_map(move |record| {
        let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data else { return None };
        (signature.input().type_covered == kind).then_some(signature)
    })
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::{
        dnssec::{Algorithm, rdata::SigInput},
        op::OpCode,
        rr::{
            SerialNumber,
            rdata::{CNAME, MX},
        },
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData, proof: Proof) -> Record {
        let mut record = Record::from_rdata(name(owner), 300, data);
        record.proof = proof;
        record
    }

    fn mx(owner: &str, proof: Proof) -> Record {
        record(owner, RData::MX(MX::new(10, name("mx.zone."))), proof)
    }

    fn alias(owner: &str, to: &str, proof: Proof) -> Record {
        record(owner, RData::CNAME(CNAME(name(to))), proof)
    }

    fn denial(owner: &str, next: &str, types: &[RecordType], proof: Proof) -> Record {
        let nsec = NSEC::new(name(next), types.iter().copied());
        record(owner, RData::DNSSEC(DNSSECRData::NSEC(nsec)), proof)
    }

    fn signed(owner: &str, type_covered: RecordType, num_labels: u8) -> Record {
        let input = SigInput {
            type_covered,
            algorithm: Algorithm::ED25519,
            num_labels,
            original_ttl: 300,
            sig_expiration: SerialNumber::new(2),
            sig_inception: SerialNumber::new(1),
            key_tag: 1,
            signer_name: name("zone."),
        };
        let signature = RRSIG::from_sig(input, vec![0]);
        record(owner, RData::DNSSEC(DNSSECRData::RRSIG(signature)), Proof::Secure)
    }

    /// How many records are believed of an answer to the question for MX of `a.zone.`.
    fn believed(answers: &[Record], denials: &[Record]) -> usize {
        let mut message = Message::response(0, OpCode::Query);
        message.answers = answers.to_vec();
        message.authorities = denials.to_vec();
        let query = Query::query(name("a.zone."), RecordType::MX);
        answer(&query, &message, Instant::now()).map_or(0, |lookup| lookup.answers().len())
    }

    #[test]
    fn a_denial_beside_an_answer_takes_nothing_from_it() {
        use Proof::{Bogus, Indeterminate, Insecure, Secure};
        let of_target = denial("b.zone.", "z.zone.", &[RecordType::MX], Secure);
        let beside = [of_target];
        let to_b = |proof| alias("a.zone.", "b.zone.", proof);
        for (answers, want) in [
            (vec![mx("a.zone.", Secure), mx("a.zone.", Secure)], 2),
            (vec![to_b(Secure), mx("b.zone.", Secure)], 2),
            // What it leads to lies in a zone without signatures.
            (vec![to_b(Secure), mx("b.zone.", Insecure)], 2),
            (vec![to_b(Insecure), mx("b.zone.", Insecure)], 2),
            (vec![to_b(Bogus), mx("b.zone.", Secure)], 0),
            (vec![to_b(Secure), mx("b.zone.", Bogus)], 0),
            (vec![to_b(Secure), mx("b.zone.", Indeterminate)], 0),
            (vec![mx("a.zone.", Secure), mx("a.zone.", Bogus)], 0),
            (vec![mx("a.zone.", Secure), mx("a.zone.", Insecure)], 0),
            // It does not answer.
            (vec![to_b(Secure)], 0),
            (vec![mx("b.zone.", Secure)], 0),
            (vec![to_b(Secure), alias("b.zone.", "a.zone.", Secure)], 0),
            (vec![], 0),
        ] {
            assert_eq!(believed(&answers, &beside), want, "{answers:?}");
        }
    }

    /// The answer may come of `*.zone.`, unless the name itself is there.
    #[test]
    fn a_wildcard_answers_where_no_name_is_closer() {
        let answers = [mx("a.zone.", Proof::Secure), signed("a.zone.", RecordType::MX, 1)];
        let of_star = denial("*.zone.", "b.zone.", &[RecordType::MX], Proof::Secure);
        let elsewhere = denial("b.zone.", "zone.", &[RecordType::MX], Proof::Secure);
        let unproven = denial("*.zone.", "b.zone.", &[RecordType::MX], Proof::Bogus);
        for (denials, want) in
            [(vec![of_star], 1), (vec![elsewhere], 0), (vec![unproven], 0), (vec![], 0)]
        {
            assert_eq!(believed(&answers, &denials), want, "{denials:?}");
        }
    }

    #[test]
    fn a_denial_covers_the_names_behind_its_own_and_before_the_next() {
        let plain = &[RecordType::A][..];
        let cut = &[RecordType::NS][..];
        for (owner, next, types, of, want) in [
            ("a.zone.", "m.zone.", plain, "b.zone.", true),
            ("a.zone.", "m.zone.", plain, "x.a.zone.", true),
            ("a.zone.", "m.zone.", plain, "a.zone.", false),
            ("a.zone.", "m.zone.", plain, "m.zone.", false),
            ("a.zone.", "m.zone.", plain, "n.zone.", false),
            ("a.zone.", "m.zone.", plain, "B.ZONE.", true),
            // Something is below it.
            ("a.zone.", "x.m.zone.", plain, "m.zone.", false),
            // The last one of the zone leads to its beginning.
            ("x.zone.", "zone.", plain, "y.zone.", true),
            ("x.zone.", "zone.", plain, "b.zone.", false),
            ("x.zone.", "zone.", plain, "y.other.", false),
            // What is in another zone.
            ("a.zone.", "m.zone.", cut, "x.a.zone.", false),
            ("a.zone.", "m.zone.", cut, "b.zone.", true),
        ] {
            let denial = NSEC::new(name(next), types.iter().copied());
            assert_eq!(covers(&name(owner), &denial, &name(of)), want, "{owner} {next} {of}");
        }
    }
}
