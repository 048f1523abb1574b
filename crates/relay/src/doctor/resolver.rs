//! The resolver: whether it answers, and whether it hands over the signatures of DNSSEC.

use merpati_console::health::{Finding, Grade};
use tokio::time::timeout;

use super::Bench;
use crate::resolve::Signatures;

pub(super) async fn check(bench: Bench<'_>) -> Vec<Finding> {
    let dns = &bench.config.dns;
    let about = match dns.servers.as_slice() {
        [] => "the system's".to_owned(),
        servers => servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let wait = bench.config.health.wait;
    // Here it is what is asked that is late.
    let signatures = timeout(wait, bench.resolver.signatures()).await;
    let signatures = signatures
        .unwrap_or_else(|_| Signatures::Silence(format!("not within {} s", wait.as_secs())));
    vec![judge(about, &signatures, dns.validate)]
}

fn judge(about: String, signatures: &Signatures, validates: bool) -> Finding {
    let finding = |grade, words: &str| Finding::new("resolver", about, grade, words);
    match (signatures, validates) {
        (Signatures::HandedOver, true) => {
            finding(Grade::Good, "it answers with signatures, which are checked")
        }
        (Signatures::HandedOver, false) => {
            finding(Grade::Good, "it answers with signatures; dns.validate would check them")
        }
        (Signatures::Stripped, true) => {
            let words = "it hands over no signatures of DNSSEC, and dns.validate needs them: mail \
                         to signed domains waits";
            finding(Grade::Bad, words).fix(FIX)
        }
        (Signatures::Stripped, false) => {
            finding(Grade::Warning, "it answers, without the signatures of DNSSEC").fix(FIX)
        }
        (Signatures::NoRoot(why), _) => {
            let words = format!("it answers, and does not know the Internet: {why}");
            finding(Grade::Unknown, &words)
        }
        (Signatures::Silence(why), _) => {
            let words = format!("it does not answer: {why}");
            finding(Grade::Bad, &words).fix("see dns.servers or /etc/resolv.conf, and the firewall")
        }
    }
}

const FIX: &str = "take a resolver that does, such as unbound on this host";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_without_signatures_is_bad_where_they_are_checked() {
        let silence = Signatures::Silence("timed out".to_owned());
        for (signatures, validates, want) in [
            (&Signatures::HandedOver, true, Grade::Good),
            (&Signatures::HandedOver, false, Grade::Good),
            (&Signatures::Stripped, true, Grade::Bad),
            (&Signatures::Stripped, false, Grade::Warning),
            (&silence, false, Grade::Bad),
            (&Signatures::NoRoot("NXDomain".to_owned()), false, Grade::Unknown),
        ] {
            let finding = judge(String::new(), signatures, validates);
            assert_eq!(finding.grade, want, "{finding:?}");
            assert_eq!(finding.fix.is_some(), want >= Grade::Warning, "{finding:?}");
        }
    }
}
