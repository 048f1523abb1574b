//! The addresses that mail leaves from: what their names are, and what EHLO says.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use futures_util::future::join_all;
use merpati_console::health::{Finding, Grade};
use merpati_mail::{Domain, question::HostNameAnswer};

use super::{Bench, within};
use crate::{
    config::Config,
    resolve::{Trouble, policy},
};

/// An address that mail leaves from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The name of its egress.
    pub(super) egress: String,
    pub(super) address: IpAddr,
    /// What it calls itself in EHLO.
    pub(super) hello: Domain,
    /// Whether the configuration names it; else the system chose it just now.
    pub(super) is_named: bool,
}

impl Source {
    /// Whether others on the Internet see this very address.
    pub(super) fn is_public(&self) -> bool {
        !policy::is_forbidden(self.address)
    }

    /// A socket address to connect from; `None` where the system chooses.
    pub(super) fn bound(&self) -> Option<SocketAddr> {
        self.is_named.then_some(SocketAddr::new(self.address, 0))
    }
}

/// The addresses of all egresses; where none is named, those that the system would take.
pub(super) fn all(config: &Config) -> Vec<Source> {
    let mut sources = Vec::new();
    for egress in &config.egresses {
        let hello = egress.hello.clone().unwrap_or_else(|| config.server.hostname.clone());
        let named = egress.addresses.iter().copied();
        sources.extend(named.map(|address| Source {
            egress: egress.name.to_string(),
            address,
            hello: hello.clone(),
            is_named: true,
        }));
    }
    if sources.is_empty() || config.system_chooses() {
        sources.extend(chosen().into_iter().map(|address| Source {
            egress: "default".to_owned(),
            address,
            hello: config.server.hostname.clone(),
            is_named: false,
        }));
    }
    sources
}

/// The addresses that the system takes towards the Internet. No packet is sent: a datagram socket
/// that is connected only learns its own address.
fn chosen() -> Vec<IpAddr> {
    let towards = |bind: &str, to: &str| {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|own| own.ip())
    };
    let all = [towards("0.0.0.0:0", "192.0.2.1:9"), towards("[::]:0", "[2001:db8::1]:9")];
    all.into_iter().flatten().filter(|address| !address.is_unspecified()).collect()
}

pub(super) async fn check(bench: Bench<'_>, sources: &[Source]) -> Vec<Finding> {
    if sources.is_empty() {
        let words = "this host has no address towards the Internet";
        let fix = "see `ip route`, or name the addresses in [[egress]]";
        return vec![Finding::new("source", "", Grade::Unknown, words).fix(fix)];
    }
    join_all(
        sources
            .iter()
            .map(|source| within(bench, "source", source.address.to_string(), look(bench, source))),
    )
    .await
}

async fn look(bench: Bench<'_>, source: &Source) -> Finding {
    let is_here = UdpSocket::bind((source.address, 0)).is_ok();
    if !is_here || !source.is_public() {
        return judge(source, is_here, &HostNameAnswer::Unknown, &Err(Trouble::NoAddress));
    }
    let name = bench.resolver.host_name(source.address).await;
    let addresses = bench.resolver.addresses(&source.hello).await;
    judge(source, is_here, &name, &addresses)
}

fn judge(
    source: &Source,
    is_here: bool,
    name: &HostNameAnswer,
    hello: &Result<Vec<IpAddr>, Trouble>,
) -> Finding {
    let Source { address, hello: said, .. } = source;
    let finding = |grade, words: String| Finding::new("source", address.to_string(), grade, words);
    if !is_here {
        let words = "this host does not have it, so no mail leaves from it".to_owned();
        return finding(Grade::Bad, words).fix("see `ip address`; correct egress.addresses");
    }
    if !source.is_public() {
        let words = "others do not see this address: a router translates it".to_owned();
        return finding(Grade::Unknown, words).fix(format!(
            "see that the address that others see has a PTR record for {said}, and that {said} \
             leads back to it"
        ));
    }
    let ask = format!("ask whoever gave you {address} for a PTR record that says {said}");
    let confirmed = match name {
        HostNameAnswer::Confirmed(name) => name,
        HostNameAnswer::None => {
            let words = "no PTR record leads to a name that leads back: large receivers refuse it";
            return finding(Grade::Bad, words.to_owned()).fix(ask);
        }
        HostNameAnswer::Unknown => {
            return finding(Grade::Unknown, "the DNS does not say its name".to_owned());
        }
    };
    if has_digits_of(confirmed, *address) {
        let words = format!("its name, {confirmed}, looks like that of a customer's line");
        return finding(Grade::Warning, words).fix(ask);
    }
    match hello {
        Ok(addresses) if !addresses.contains(address) => {
            let words = format!("EHLO says {said}, which does not lead to {address}");
            let fix = format!("add {address} to the addresses of {said}, or set egress.hello");
            finding(Grade::Warning, words).fix(fix)
        }
        Err(Trouble::NoAddress) => {
            let words = format!("EHLO says {said}, which has no address");
            let fix = format!("give {said} the address {address}, or set egress.hello");
            finding(Grade::Bad, words).fix(fix)
        }
        Err(Trouble::Unknown { why }) => finding(Grade::Unknown, why.clone()),
        Ok(_) if confirmed != said => {
            let words = format!("its name is {confirmed}, and EHLO says {said}: both lead to it");
            finding(Grade::Good, words)
        }
        Ok(_) => finding(Grade::Good, format!("PTR and EHLO say {said}, which leads back")),
    }
}

/// Whether a name holds the numbers of an IPv4 address, as those do that a provider makes up.
fn has_digits_of(name: &Domain, address: IpAddr) -> bool {
    let IpAddr::V4(address) = address else { return false };
    let text = name.to_string();
    let is_digit = |c: char| c.is_ascii_digit();
    let numbers: Vec<&str> = text.split(|c| !is_digit(c)).filter(|it| !it.is_empty()).collect();
    let octets = address.octets().map(|octet| octet.to_string());
    let holds = |octet: &String| {
        numbers.iter().any(|number| number.trim_start_matches('0') == octet.trim_start_matches('0'))
    };
    numbers.len() >= octets.len() && octets.iter().all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_name_that_leads_back_and_ehlo_one_too() {
        let address: IpAddr = "8.8.4.7".parse().unwrap();
        let name = |name: &str| HostNameAnswer::Confirmed(Domain::parse(name).unwrap());
        let here = || Ok(vec![address]);
        let elsewhere = Ok(vec!["8.8.4.8".parse().unwrap()]);
        for (is_here, found, hello, want, words) in [
            (true, name("mx.ours.example"), here(), Grade::Good, "leads back"),
            (true, name("other.ours.example"), here(), Grade::Good, "both"),
            (true, HostNameAnswer::None, here(), Grade::Bad, "PTR"),
            (true, HostNameAnswer::Unknown, here(), Grade::Unknown, "DNS"),
            (true, name("mx.ours.example"), elsewhere, Grade::Warning, "EHLO"),
            (true, name("mx.ours.example"), Err(Trouble::NoAddress), Grade::Bad, "no address"),
            (true, name("host-8-8-4-7.isp.example"), here(), Grade::Warning, "line"),
            (true, name("7.4.8.8.isp.example"), here(), Grade::Warning, "line"),
            (true, name("mx7.ours.example"), here(), Grade::Good, "both"),
            (false, name("mx.ours.example"), here(), Grade::Bad, "does not have"),
        ] {
            let source = Source {
                egress: "default".to_owned(),
                address,
                hello: Domain::parse("mx.ours.example").unwrap(),
                is_named: true,
            };
            let finding = judge(&source, is_here, &found, &hello);
            assert_eq!(finding.grade, want, "{finding:?}");
            assert!(finding.words.contains(words), "{finding:?}");
            let needs_fix = matches!(want, Grade::Bad | Grade::Warning);
            assert!(!needs_fix || finding.fix.is_some(), "{finding:?}");
        }
    }
}
