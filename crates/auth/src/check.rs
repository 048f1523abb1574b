//! All checks of a message together.
//!
//! Pure.

use std::net::IpAddr;

use crate::{
    ArcFinding, BodyHashes, DkimFinding, DkimResult, Message,
    dmarc::{self, DmarcFinding, Voucher},
    dns::{Known, Missing},
    iprev::{self, IprevFinding},
    names::ascii,
    spf::{self, Client, SpfFinding, SpfResult},
};

/// Who brings a message.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The address of the client.
    pub address: IpAddr,
    /// What it said in HELO or EHLO; empty where it said nothing.
    pub helo: &'a str,
    /// The mailbox of the reverse-path as it is written; `None` where that is null.
    pub sender: Option<&'a str>,
    /// Our own name.
    pub receiver: &'a str,
    /// The domains of the authors that From names, each once.
    pub authors: &'a [String],
    /// Seconds since 1970.
    pub now: u64,
}

/// What the checks found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Whether the name of the client leads back to it.
    pub iprev: IprevFinding,
    /// What the domain of the reverse-path says of the client; of a null one, that in HELO
    /// (RFC 7208 §2.4).
    pub spf: SpfFinding,
    /// What became of each signature, from the top.
    pub dkim: Vec<DkimFinding>,
    /// What became of the chain of forwarders.
    pub arc: ArcFinding,
    /// Whether somebody vouches for each author; never empty.
    pub dmarc: Vec<DmarcFinding>,
}

/// Makes all checks with what is known; what they miss, they ask for at once.
pub fn check(
    known: &Known,
    facts: &Facts<'_>,
    message: &Message<'_>,
    hashes: &BodyHashes,
) -> Result<Findings, Missing> {
    let client = Client {
        address: facts.address,
        helo: facts.helo,
        receiver: facts.receiver,
        now: facts.now,
    };
    let iprev = iprev::check(known, facts.address);
    let spf = spf::check(known, &client, facts.sender);
    let dkim = message.check_dkim(known, hashes, facts.now);
    let arc = message.check_arc(known, hashes, facts.now);
    let authors: Vec<_> = facts.authors.iter().map(|domain| ascii(domain)).collect();
    // Also before all vouchers are there: so the records of the authors are asked for meanwhile.
    let vouchers = vouchers(spf.as_ref().ok(), dkim.as_deref().unwrap_or_default());
    let dmarc = dmarc::check(known, &authors, &vouchers);
    match (iprev, spf, dkim, arc, dmarc) {
        (Ok(iprev), Ok(spf), Ok(dkim), Ok(arc), Ok(dmarc)) => {
            Ok(Findings { iprev, spf, dkim, arc, dmarc })
        }
        (iprev, spf, dkim, arc, dmarc) => {
            let all = [iprev.err(), spf.err(), dkim.err(), arc.err(), dmarc.err()];
            Err(Missing::join(all.into_iter().flatten()).unwrap_or_default())
        }
    }
}

/// Who vouches for the message, or might if the DNS answered.
fn vouchers(spf: Option<&SpfFinding>, dkim: &[DkimFinding]) -> Vec<Voucher> {
    let by_spf = spf.and_then(|spf| {
        let is_sure = match spf.result {
            SpfResult::Pass => true,
            SpfResult::TempError => false,
            SpfResult::Fail
            | SpfResult::Neutral
            | SpfResult::None
            | SpfResult::PermError
            | SpfResult::SoftFail => return None,
        };
        Some(Voucher { method: "spf", domain: spf.domain.clone(), is_sure })
    });
    let by_dkim = dkim.iter().filter_map(|it| {
        let is_sure = match it.result {
            DkimResult::Pass => true,
            DkimResult::TempError => false,
            DkimResult::Fail | DkimResult::Neutral | DkimResult::PermError | DkimResult::Policy => {
                return None;
            }
        };
        Some(Voucher { method: "dkim", domain: it.domain.clone(), is_sure })
    });
    by_spf.into_iter().chain(by_dkim).collect()
}
