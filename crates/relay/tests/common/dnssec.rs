//! Signatures for the name server of the tests: one signed zone, the root, with unsigned domains
//! that are delegated from it, and names whose signatures are forged.
//!
//! What does not exist is denied by a record for the very name, as some providers do (RFC 9824).

use std::{collections::BTreeMap, collections::BTreeSet, path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hickory_resolver::proto::{
    dnssec::{
        DnssecSigner, PublicKey as _, SigningKey as _,
        crypto::Ed25519SigningKey,
        rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG},
    },
    op::{Message, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordSet, RecordType, rdata::NS},
};
use rcgen::date_time_ymd;

/// The key of the root, and what it does not sign well.
pub struct Signer {
    key: DnssecSigner,
    /// Domains that are delegated without a signature.
    pub unsigned: BTreeSet<Name>,
    /// Names whose signatures prove nothing.
    pub forged: BTreeSet<Name>,
}

impl Signer {
    pub fn new() -> Self {
        let octets = Ed25519SigningKey::generate_pkcs8().unwrap();
        let key = Ed25519SigningKey::from_pkcs8(&octets).unwrap();
        // A key of the zone that is an entry point: 257.
        let public = DNSKEY::with_flags(257, key.to_public_key().unwrap());
        let lifetime = Duration::from_hours(24 * 365 * 40);
        let key = DnssecSigner::new(public, Box::new(key), Name::root(), lifetime);
        Self { key, unsigned: BTreeSet::new(), forged: BTreeSet::new() }
    }

    /// Writes the key as a file of trust anchors.
    pub fn write_anchor(&self, path: &Path) {
        let key = STANDARD.encode(self.key.dnskey().public_key().public_bytes());
        std::fs::write(path, format!(". 3600 IN DNSKEY 257 3 15 {key}\n")).unwrap();
    }

    /// The unsigned domain in which a question is, but for what its parent says of it.
    fn cut(&self, name: &Name, kind: RecordType) -> Option<&Name> {
        self.unsigned
            .iter()
            .find(|cut| cut.zone_of(name) && !(kind == RecordType::DS && **cut == *name))
    }

    /// Signs an answer; `kinds` are the types that a name has.
    pub fn sign(
        &self,
        answer: &mut Message,
        (name, kind): (&Name, RecordType),
        kinds: impl Fn(&Name) -> Vec<RecordType>,
    ) {
        let is_plain = !matches!(
            answer.metadata.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        );
        if is_plain {
            return;
        }
        if name.is_root() && kind == RecordType::DNSKEY {
            answer.authorities.clear();
            let key = RData::DNSSEC(DNSSECRData::DNSKEY(self.key.to_dnskey()));
            answer.add_answer(Record::from_rdata(Name::root(), 60, key));
        }
        if self.unsigned.contains(name) && kind == RecordType::NS && answer.answers.is_empty() {
            answer.authorities.clear();
            let host = RData::NS(NS(name.prepend_label("ns").unwrap()));
            answer.add_answer(Record::from_rdata(name.clone(), 60, host));
        }
        // Where the chain of aliases ends, or the name itself.
        let mut end = name.clone();
        let alias_of = |end: &Name| {
            answer.answers.iter().filter(|record| record.name == *end).find_map(|record| {
                let RData::CNAME(to) = &record.data else { return None };
                Some(to.0.clone())
            })
        };
        while let Some(next) = alias_of(&end) {
            end = next;
        }
        let is_there = |record: &Record| record.name == end && record.record_type() == kind;
        if !answer.answers.iter().any(is_there) {
            self.deny(answer, (&end, kind), kinds(&end));
        }
        let answers = self.signatures(&answer.answers, kind);
        answer.answers.extend(answers);
        let authorities = self.signatures(&answer.authorities, kind);
        answer.authorities.extend(authorities);
    }

    fn deny(&self, answer: &mut Message, (end, kind): (&Name, RecordType), has: Vec<RecordType>) {
        if let Some(cut) = self.cut(end, kind) {
            for record in &mut answer.authorities {
                record.name = cut.clone();
            }
            return;
        }
        answer.metadata.response_code = ResponseCode::NoError;
        let mut types = vec![RecordType::RRSIG, RecordType::NSEC];
        if self.unsigned.contains(end) {
            types.push(RecordType::NS);
        } else {
            types.extend(has);
        }
        let next = end.prepend_label(b"\0".as_slice()).unwrap();
        let denial = RData::DNSSEC(DNSSECRData::NSEC(NSEC::new(next, types)));
        answer.add_authority(Record::from_rdata(end.clone(), 60, denial));
    }

    fn signatures(&self, records: &[Record], kind: RecordType) -> Vec<Record> {
        let mut sets = BTreeMap::<(Name, RecordType), Vec<Record>>::new();
        for record in records {
            let key = (record.name.clone(), record.record_type());
            sets.entry(key).or_default().push(record.clone());
        }
        let of_parent = [RecordType::NSEC, RecordType::SOA];
        let mut signatures = Vec::new();
        for ((name, own), records) in sets {
            let asked = if kind == RecordType::DS && of_parent.contains(&own) { kind } else { own };
            if self.cut(&name, asked).is_some() {
                continue;
            }
            let mut set = RecordSet::new(name.clone(), own, 0);
            for record in records {
                set.insert(record, 0);
            }
            let inception = date_time_ymd(2025, 1, 1);
            let signed = RRSIG::from_rrset(&set, DNSClass::IN, inception, &self.key).unwrap();
            let signed = if self.forged.contains(&name) {
                let mut octets = signed.sig().to_vec();
                octets[0] ^= 1;
                RRSIG::from_sig(signed.input().clone(), octets)
            } else {
                signed
            };
            let data = RData::DNSSEC(DNSSECRData::RRSIG(signed));
            signatures.push(Record::from_rdata(name, 60, data));
        }
        signatures
    }
}
