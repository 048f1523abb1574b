//! Whether our addresses are in the lists that others ask (RFC 5782).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures_util::future::join_all;
use merpati_console::health::{Finding, Grade};
use merpati_flow::admit::lists::{Heard, Nonsense};
use merpati_mail::{Domain, question::ListEntry};

use super::{Bench, source::Source};
use crate::resolve::{Listing, Silence};

type Said = Result<Listing, Silence>;

pub(super) async fn check(bench: Bench<'_>, sources: &[Source]) -> Vec<Finding> {
    let public: BTreeSet<IpAddr> =
        sources.iter().filter(|it| it.is_public()).map(|it| it.address).collect();
    let zones = &bench.config.health.lists;
    if public.is_empty() {
        if zones.is_empty() || !bench.sends_by_mx() {
            return Vec::new();
        }
        let words = "the addresses that others see are not known here, so no list was asked";
        return vec![Finding::new("list", "", Grade::Unknown, words)];
    }
    let asked = zones.iter().flat_map(|zone| public.iter().map(move |address| (zone, *address)));
    join_all(asked.map(|(zone, address)| async move {
        let ask = |address| async move {
            bench.resolver.listed(zone, &ListEntry::Address(address)).await
        };
        // The points by which a list shows that it answers, and not everybody with yes.
        let (inside, outside) = match address {
            IpAddr::V4(_) => {
                (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), IpAddr::V4(Ipv4Addr::LOCALHOST))
            }
            IpAddr::V6(_) => (
                IpAddr::V6(Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped()),
                IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
            ),
        };
        let (found, inside, outside) = tokio::join!(ask(address), ask(inside), ask(outside));
        judge(zone, address, &found, (&inside, &outside))
    }))
    .await
}

fn judge(
    zone: &Domain,
    address: IpAddr,
    found: &Said,
    (inside, outside): (&Said, &Said),
) -> Finding {
    let finding =
        |grade, words: String| Finding::new("list", format!("{address} in {zone}"), grade, words);
    let heard = |said: &Said| said.as_ref().ok().and_then(|listing| listing.heard.clone());
    let not_believed = |words: &str| {
        let fix =
            "ask it through a resolver of your own (dns.servers), or leave it out of health.lists";
        finding(Grade::Unknown, words.to_owned()).fix(fix)
    };
    match heard(found) {
        None => return not_believed("its name servers do not answer"),
        Some(Heard::Nonsense(Nonsense::Error(code))) => {
            return not_believed(&format!("it answers {code}: it does not serve this resolver"));
        }
        Some(Heard::Nonsense(_)) => return not_believed("it does not answer as lists do"),
        Some(Heard::Listed(_) | Heard::NotListed) => {}
    }
    let is_sound =
        matches!(heard(inside), Some(Heard::Listed(_))) && heard(outside) == Some(Heard::NotListed);
    if !is_sound {
        // Few lists have points of IPv6.
        if address.is_ipv6() && heard(found) == Some(Heard::NotListed) {
            return finding(Grade::Unknown, "it shows no sign of knowing IPv6".to_owned());
        }
        return not_believed("its test points do not answer as they must (RFC 5782 §5)");
    }
    match found {
        Ok(Listing { heard: Some(Heard::Listed(codes)), reason }) => {
            let codes: Vec<_> = codes.iter().map(ToString::to_string).collect();
            let reason = reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
            finding(Grade::Bad, format!("listed, {}{reason}", codes.join(", "))).fix(
                "find what was sent (`merpati queue shape`, the mail log), stop it, and ask the \
                 list for removal",
            )
        }
        Ok(_) | Err(Silence) => finding(Grade::Good, "not listed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_cannot_be_believed_is_not_clean() {
        let zone = Domain::parse("list.example").unwrap();
        let listing = |heard| Ok(Listing { heard, reason: None });
        let listed = || listing(Some(Heard::Listed(vec![Ipv4Addr::new(127, 0, 0, 2)])));
        let not = || listing(Some(Heard::NotListed));
        let error = Nonsense::Error(Ipv4Addr::new(127, 255, 255, 254));
        for (found, inside, outside, want) in [
            (not(), listed(), not(), Grade::Good),
            (listed(), listed(), not(), Grade::Bad),
            // Everybody is listed, or nobody: it is dead, or somebody rewrites answers.
            (listed(), listed(), listed(), Grade::Unknown),
            (not(), not(), not(), Grade::Unknown),
            (listing(None), listed(), not(), Grade::Unknown),
            (Err(Silence), Err(Silence), Err(Silence), Grade::Unknown),
            (listing(Some(Heard::Nonsense(error))), listed(), not(), Grade::Unknown),
        ] {
            let address = "192.0.2.1".parse().unwrap();
            let finding = judge(&zone, address, &found, (&inside, &outside));
            assert_eq!(finding.grade, want, "{finding:?}");
            assert_eq!(finding.fix.is_none(), want == Grade::Good, "{finding:?}");
        }
    }
}
