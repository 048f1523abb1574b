//! Which networks `mynetworks` and tables of clients mean.
//!
//! Invariant: what comes out is never more than what Postfix meant: what cannot be read, and what
//! is excepted, is left out. Pure.

use std::{fmt, net::IpAddr};

use super::{
    Postfix,
    report::{Report, Weight},
    scope::Scope,
    tables::{Row, Table},
};

/// The addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Net {
    address: IpAddr,
    prefix: u32,
}

impl Net {
    /// Reads `192.0.2.0/24`, `192.0.2.7`, `[2001:db8::]/32` and the same without brackets; bits
    /// behind the prefix must be 0, as in Postfix.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let inside = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
        let address: IpAddr = inside.unwrap_or(address).parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(width), |digits| digits.parse().ok())?;
        let net = Self { address, prefix };
        (prefix <= width && net.masked(net.bits()) == net.bits()).then_some(net)
    }

    /// A whole address, or the first octets of one, as the keys of access tables have it.
    fn of_key(key: &str) -> Option<Self> {
        if let Some(net) = Self::parse(key) {
            return Some(net);
        }
        let octets: Vec<u8> =
            key.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [first, second, third] = match octets.as_slice() {
            [first] => [*first, 0, 0],
            [first, second] => [*first, *second, 0],
            [first, second, third] => [*first, *second, *third],
            _ => return None,
        };
        let prefix = u32::try_from(octets.len()).ok()? * 8;
        Some(Self { address: IpAddr::from([first, second, third, 0]), prefix })
    }

    /// Whether it holds so much that it can be nobody's own.
    pub(super) fn is_everybody(self) -> bool {
        crate::config::Network::parse(&self.to_string()).is_ok_and(|net| net.is_everybody())
    }

    /// Whether all of another one is in it.
    pub(super) fn holds(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.prefix <= other.prefix
            && self.masked(other.bits()) == self.bits()
    }

    /// What is left of it without another one.
    pub(super) fn without(self, other: Self) -> Vec<Self> {
        if other.holds(self) {
            return Vec::new();
        }
        if !self.holds(other) {
            return vec![self];
        }
        self.halves().into_iter().flat_map(|half| half.without(other)).collect()
    }

    /// What is left of it without others.
    fn without_all(self, others: &[Self]) -> Vec<Self> {
        let cut = |all: Vec<Self>, other: &Self| {
            all.into_iter().flat_map(|one| one.without(*other)).collect()
        };
        others.iter().fold(vec![self], cut)
    }

    /// Its first and last address; `None` for IPv6.
    fn v4_range(self) -> Option<(u32, u32)> {
        let IpAddr::V4(first) = self.address else { return None };
        let behind = u32::MAX.checked_shr(self.prefix).unwrap_or(0);
        Some((first.to_bits(), first.to_bits() | behind))
    }

    /// Whether it is of IPv4 addresses in IPv6 clothes, in which no client comes to Postfix.
    fn is_mapped(self) -> bool {
        match self.address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
        }
    }

    fn halves(self) -> [Self; 2] {
        let prefix = self.prefix + 1;
        let upper = self.bits() | 1_u128.checked_shl(128 - prefix).unwrap_or(0);
        [Self { prefix, ..self }, Self { address: self.with(upper), prefix }]
    }

    fn with(self, bits: u128) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(bits >> 96).unwrap_or_default().into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        }
    }

    /// The address as bits from the left.
    fn bits(self) -> u128 {
        match self.address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    fn masked(self, bits: u128) -> u128 {
        bits & u128::MAX.checked_shl(128 - self.prefix.min(128)).unwrap_or(0)
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The networks that `mynetworks` names, or its style where it names none.
pub(super) fn mynetworks(postfix: &Postfix, scope: &Scope<'_>, report: &mut Report) -> Vec<Net> {
    if scope.assignment("mynetworks").is_none() {
        return by_style(scope, report);
    }
    report.nothing(scope, "mynetworks_style", "mynetworks is set");
    let mut found = Found::default();
    for word in scope.words("mynetworks") {
        found.word(postfix, &word);
    }
    for problem in &found.problems {
        report.left(scope, "mynetworks", Weight::Loud, problem);
    }
    let mut all: Vec<Net> = Vec::new();
    for net in found.nets {
        if net.is_everybody() {
            let text = format!(
                "{net} holds the networks of strangers: Postfix was an open relay, and Merpati is \
                 none; name your own networks in relay.networks"
            );
            report.left(scope, "mynetworks", Weight::Loud, &text);
        } else if !net.is_mapped() && !all.contains(&net) {
            all.push(net);
        }
    }
    all
}

/// What the words of a list of networks mean, in their order.
#[derive(Debug, Default)]
struct Found {
    nets: Vec<Net>,
    /// What was excepted so far: the first entry that holds an address counts.
    except: Vec<Net>,
    problems: Vec<String>,
}

impl Found {
    fn word(&mut self, postfix: &Postfix, word: &str) {
        let (is_except, word) = match word.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        if word.starts_with('/') {
            match postfix.files.list(word) {
                Ok(entries) if !is_except => {
                    for (entry, _) in entries {
                        self.word(postfix, &entry);
                    }
                }
                Ok(entries) => {
                    for (entry, _) in entries {
                        self.one(&entry, true);
                    }
                }
                Err(why) => self.unknown(is_except, &why),
            }
        } else if let Some(net) = Net::parse(word) {
            self.add(net, is_except);
        } else if word.contains(':') && !word.starts_with('[') {
            self.table(postfix, word, is_except);
        } else {
            self.one(word, is_except);
        }
    }

    fn one(&mut self, word: &str, is_except: bool) {
        match Net::parse(word) {
            Some(net) => self.add(net, is_except),
            None => self.unknown(is_except, &format!("`{word}` is no network")),
        }
    }

    fn table(&mut self, postfix: &Postfix, name: &str, is_except: bool) {
        match postfix.files.table(name) {
            Table::Networks(rows) | Table::Rows(rows) => {
                for row in rows {
                    self.one(&row.key, is_except);
                }
            }
            Table::All(_) => {
                let text = format!("{name} means everybody: name your networks in relay.networks");
                self.unknown(is_except, &text);
            }
            Table::Unread(why) => self.unknown(is_except, &format!("{name}: {why}")),
        }
    }

    fn add(&mut self, net: Net, is_except: bool) {
        if is_except {
            self.except.push(net);
            return;
        }
        self.nets.extend(net.without_all(&self.except));
    }

    fn unknown(&mut self, is_except: bool, why: &str) {
        if is_except {
            // Nobody can say who is excepted, so what follows is in doubt, and left out.
            self.except.extend(["0.0.0.0/0", "::/0"].iter().filter_map(|all| Net::parse(all)));
            let text = format!("{why}; all that follows this exception is left out");
            self.problems.push(text);
        } else {
            self.problems.push(format!("{why}; its clients may send to your own domains only"));
        }
    }
}

/// Loopback, and what is named as an address of this machine.
fn by_style(scope: &Scope<'_>, report: &mut Report) -> Vec<Net> {
    let own = scope.words("inet_interfaces");
    let own = own.iter().filter_map(|word| Net::parse(word));
    let loopback = ["127.0.0.0/8", "::1"].iter().filter_map(|net| Net::parse(net));
    let mut all: Vec<Net> = Vec::new();
    for net in loopback.chain(own) {
        if !all.iter().any(|other| other.holds(net)) {
            all.push(net);
        }
    }
    match scope.value("mynetworks_style").as_str() {
        "host" => {
            report.carried(scope, "mynetworks_style");
            let text = "the addresses of this machine are not known here, but for loopback and \
                        inet_interfaces: add others of them to relay.networks where it speaks to \
                        itself by them";
            report.left(scope, "mynetworks_style", Weight::Plain, text);
        }
        style => {
            let text = format!(
                "mynetworks is not set, and the style `{style}` trusts whole networks of this \
                 machine, which are not known here: name them in relay.networks"
            );
            report.left(scope, "mynetworks_style", Weight::Loud, &text);
        }
    }
    all
}

/// What a table of clients says of networks, in the order in which it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientTable {
    /// Networks, and whether they are refused.
    pub rows: Vec<(Net, bool)>,
    /// What it refuses that is no network, or why it cannot be read.
    pub doubt: Option<String>,
}

/// The table behind `check_client_access`.
pub(super) fn client_table(postfix: &Postfix, name: &str) -> ClientTable {
    let (rows, is_ordered) = match postfix.files.table(name) {
        Table::Networks(rows) => (rows, true),
        Table::Rows(rows) => (rows, false),
        Table::All(value) if refuses(&value) => {
            let all = ["0.0.0.0/0", "::/0"].iter().filter_map(|all| Net::parse(all));
            return ClientTable { rows: all.map(|net| (net, true)).collect(), doubt: None };
        }
        Table::All(_) => return ClientTable { rows: Vec::new(), doubt: None },
        Table::Unread(why) => {
            return ClientTable { rows: Vec::new(), doubt: Some(format!("{name}: {why}")) };
        }
    };
    let mut doubt = None;
    let mut nets = Vec::new();
    for Row { key, value, place } in rows {
        match Net::of_key(&key) {
            Some(net) => nets.push((net, refuses(&value))),
            None if refuses(&value) => doubt = Some(format!("{place} refuses `{key}`")),
            None => {}
        }
    }
    if !is_ordered {
        // Whole addresses are looked up first, then ever less of them.
        nets.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix));
    }
    ClientTable { rows: nets, doubt }
}

impl ClientTable {
    /// Whether it refuses whom it does not name, so that a stranger is refused. IPv4 decides.
    pub(super) fn refuses_the_rest(&self) -> bool {
        // Lists of whole countries have many rows: sorted, one look at each is enough.
        let mut named: Vec<(u32, u32)> =
            self.rows.iter().filter_map(|(net, _)| net.v4_range()).collect();
        named.sort_unstable();
        let mut next = Some(0);
        for (first, last) in named {
            match next {
                Some(open) if last < open => {}
                Some(open) if first <= open => next = last.checked_add(1),
                // Somebody below is named by no row, or nobody is left.
                Some(_) | None => break,
            }
        }
        next.is_none() && self.rows.iter().any(|(_, is_refused)| *is_refused)
    }

    /// What it leaves of these networks.
    pub(super) fn pass(&self, nets: Vec<Net>) -> Vec<Net> {
        let (mut kept, mut open) = (Vec::new(), nets);
        for (row, is_refused) in &self.rows {
            let mut rest = Vec::new();
            for net in open {
                let outside = net.without(*row);
                if !is_refused {
                    // What the row holds of it is decided: it passes.
                    kept.extend(net.without_all(&outside));
                }
                rest.extend(outside);
            }
            open = rest;
        }
        kept.extend(open);
        kept.sort();
        kept.dedup();
        kept
    }
}

/// Whether an action of an access table may refuse, now or later.
fn refuses(action: &str) -> bool {
    let word = action.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    let passes = ["OK", "DUNNO", "PREPEND", "WARN", "INFO", "HOLD", "BCC", "REDIRECT", "FILTER"];
    let is_number = !word.is_empty() && word.bytes().all(|octet| octet.is_ascii_digit());
    // `554 text` refuses; a number alone, as programs of other makers write it, permits.
    let is_code = is_number && word.starts_with(['4', '5']) && word.len() == 3;
    !passes.contains(&word.as_str()) && (!is_number || is_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    fn shown(nets: &[Net]) -> String {
        nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn networks_are_read_as_postfix_reads_them() {
        for (text, want) in [
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("[2001:db8::]/32", Some("2001:db8::/32")),
            ("[::1]/128", Some("::1/128")),
            ("::1", Some("::1/128")),
            ("192.0.2.1/24", None),
            ("192.0.2.0/33", None),
            ("localhost", None),
            ("10/8", None),
        ] {
            assert_eq!(Net::parse(text).map(|net| net.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn a_part_is_cut_out_of_a_network() {
        let net = |text: &str| Net::parse(text).unwrap();
        for (from, cut, want) in [
            ("10.0.0.0/30", "10.0.0.1", "10.0.0.0/32 10.0.0.2/31"),
            ("10.0.0.0/8", "10.0.0.0/8", ""),
            ("10.0.0.0/8", "0.0.0.0/0", ""),
            ("10.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "128.0.0.0/1", "0.0.0.0/1"),
            ("2001:db8::/126", "2001:db8::2/127", "2001:db8::/127"),
            ("10.0.0.0/8", "::/0", "10.0.0.0/8"),
        ] {
            assert_eq!(shown(&net(from).without(net(cut))), want, "{from} without {cut}");
        }
    }

    #[test]
    fn mynetworks_is_what_postfix_trusts_and_never_more() {
        for (text, want, problems) in [
            (
                "mynetworks = 127.0.0.0/8, [::1]/128 10.1.0.0/16",
                "127.0.0.0/8 ::1/128 10.1.0.0/16",
                0,
            ),
            ("mynetworks = !10.0.0.1, 10.0.0.0/31", "10.0.0.0/32", 0),
            ("mynetworks = [::ffff:10.0.0.0]/104", "", 0),
            ("mynetworks = 10.0.0.0/31, !10.0.0.1", "10.0.0.0/31", 0),
            ("mynetworks = hash:/t, 10.0.0.0/31", "192.0.2.1/32 10.0.0.0/31", 0),
            ("mynetworks = /l", "192.0.2.2/32", 0),
            ("mynetworks = 10.0.0.0/31, pcre:/p", "10.0.0.0/31", 1),
            ("mynetworks = !pcre:/p, 10.0.0.0/31", "", 1),
            ("mynetworks = 10.0.0.1/8, friend.example", "", 2),
            ("mynetworks = 0.0.0.0/0", "", 1),
            ("mynetworks = static:all", "", 1),
            ("mynetworks =", "", 0),
            (
                "mynetworks_style = host\ninet_interfaces = 192.0.2.9",
                "127.0.0.0/8 ::1/128 192.0.2.9/32",
                1,
            ),
            ("mynetworks_style = subnet", "127.0.0.0/8 ::1/128", 1),
        ] {
            let postfix = postfix(text, "", &[("/t", "192.0.2.1 x\n"), ("/l", "192.0.2.2\n")]);
            let mut report = Report::default();
            let nets = mynetworks(&postfix, &postfix.scope(), &mut report);
            assert_eq!(shown(&nets), want, "{text}");
            assert_eq!(report.into_lines().len(), problems, "{text}");
        }
    }

    #[test]
    fn a_table_refuses_the_rest_where_its_rows_leave_nobody() {
        for (rows, want) in [
            ("0.0.0.0/0 REJECT\n", true),
            ("10.0.0.0/8 OK\n0.0.0.0/0 REJECT\n", true),
            ("128.0.0.0/1 REJECT\n0.0.0.0/1 OK\n", true),
            ("0.0.0.0/0 OK\n", false),
            ("0.0.0.0/1 REJECT\n128.0.0.0/2 REJECT\n", false),
            ("128.0.0.0/1 REJECT\n", false),
            ("::/0 REJECT\n", false),
            ("", false),
        ] {
            let postfix = postfix("", "", &[("/c", rows)]);
            assert_eq!(client_table(&postfix, "cidr:/c").refuses_the_rest(), want, "{rows}");
        }
        let all_but_one =
            Net::parse("0.0.0.0/0").unwrap().without(Net::parse("128.0.0.0").unwrap());
        let inner = Net::parse("10.0.0.0/8").unwrap();
        let rows = all_but_one.into_iter().chain([inner]).map(|net| (net, true)).collect();
        assert!(!ClientTable { rows, doubt: None }.refuses_the_rest());
    }

    #[test]
    fn a_table_of_clients_takes_away_what_it_refuses() {
        let files = [
            ("/c", "10.0.0.0/25 OK\n10.0.0.0/24 REJECT\n"),
            ("/h", "10.0.0 550 no\n10.0.0.7 OK\nbad.example REJECT\ngood.example OK\n"),
        ];
        let postfix = postfix("", "", &files);
        let nets = || vec![Net::parse("10.0.0.0/23").unwrap()];
        let table = client_table(&postfix, "cidr:/c");
        assert_eq!(table.doubt, None);
        assert_eq!(shown(&table.pass(nets())), "10.0.0.0/25 10.0.1.0/24");
        let table = client_table(&postfix, "hash:/h");
        assert_eq!(table.doubt.as_deref(), Some("/h:3 refuses `bad.example`"));
        assert_eq!(shown(&table.pass(nets())), "10.0.0.7/32 10.0.1.0/24");
        assert!(client_table(&postfix, "pcre:/p").doubt.is_some());
        assert!(!table.refuses_the_rest());
        let all = client_table(&postfix, "static:REJECT");
        assert!(all.refuses_the_rest() && all.pass(nets()).is_empty());
        assert_eq!(client_table(&postfix, "static:OK").doubt, None);
    }
}
