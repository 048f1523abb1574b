use merpati_mail::Time;
use proptest::prelude::*;

use super::*;

/// No cryptography, but every bit of text and key counts.
#[derive(Debug)]
pub(crate) struct Mixed(pub(crate) u64);

impl Mac for Mixed {
    fn mac(&self, text: &[u8]) -> [u8; MAC_OCTETS] {
        let mix = |hash: u64, octet: &u8| {
            let hash = (hash ^ u64::from(*octet)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^ hash >> 29
        };
        let hash = text.iter().chain(&[0; 8]).fold(self.0, mix);
        *hash.to_be_bytes().first_chunk().unwrap()
    }
}

fn srs(key: u64) -> Srs {
    Srs::new(Domain::parse("ours.example").unwrap(), Arc::new(Mixed(key)))
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn rewritten(sender: &str, now: Time) -> Mailbox {
    let forwarded = srs(1).forwarded(&mailbox(sender), now);
    let Forwarded::As(address) = forwarded else { panic!("{sender}: {forwarded:?}") };
    address
}

const fn day(day: u64) -> Time {
    Time::from_secs(day * SECONDS_OF_DAY)
}

#[test]
fn who_sent_it_stands_in_the_address_as_the_paper_has_it() {
    for (sender, want) in [
        ("Ani.W@b.example", "SRS0=*=PT=b.example=Ani.W@ours.example"),
        ("a=b@b.example", "SRS0=*=PT=b.example=a=b@ours.example"),
        ("\"a b\"@b.example", "\"SRS0=*=PT=b.example=a b\"@ours.example"),
        ("srs0@b.example", "SRS0=*=PT=b.example=srs0@ours.example"),
        ("srs0.team@b.example", "SRS0=*=PT=b.example=srs0.team@ours.example"),
        // Of others, nothing is believed: what they wrote goes along.
        ("SRS0=hh=tt=a.example=x@b.example", "SRS1=*=b.example==hh=tt=a.example=x@ours.example"),
        ("srs0+hh=tt=a.example=x@b.example", "SRS1=*=b.example=+hh=tt=a.example=x@ours.example"),
        // The second hides itself, so the address does not grow with each further one.
        ("SRS1=gg=f.example==hh=x@b.example", "SRS1=*=f.example==hh=x@ours.example"),
        ("SRS1+gg=f.example=-hh=x@b.example", "SRS1=*=f.example=-hh=x@ours.example"),
        // What only looks like it is a name.
        ("SRS1=gg=f.example@b.example", "SRS0=*=PT=b.example=SRS1=gg=f.example@ours.example"),
        ("SRS1=g=f+x==hh@b.example", "SRS0=*=PT=b.example=SRS1=g=f+x==hh@ours.example"),
    ] {
        let now = day(10 * 1024 + 15 * 32 + 19);
        let written = rewritten(sender, now).to_string();
        let start = written.find('=').unwrap() + 1;
        let hash = &written[start..start + 8];
        assert!(hash.bytes().all(|octet| ALPHABET.contains(&octet)), "{written}");
        assert_eq!(written.replacen(hash, "*", 1), want, "{sender}");
    }
}

#[test]
fn whom_an_address_cannot_hold_or_spf_does_not_know_sends_as_himself() {
    let forwarded = |sender: &str| srs(1).forwarded(&mailbox(sender), Time::EPOCH);
    assert_eq!(forwarded("ani@[192.0.2.1]"), Forwarded::Same);
    let fits = |octets: usize| format!("{}@b.example", "x".repeat(octets));
    // SRS0=HHHHHHHH=TT=b.example= are 27 octets of 64.
    assert!(matches!(forwarded(&fits(37)), Forwarded::As(_)));
    assert_eq!(forwarded(&fits(38)), Forwarded::TooLong);
}

#[test]
fn an_address_leads_back_for_three_weeks() {
    // Across the day on which the days begin anew.
    let made = 3 * DAYS - 10;
    let address = rewritten("ani@b.example", day(made));
    let read = |at: u64| srs(1).read(&address, Age::At(day(at))).unwrap();
    let original = Ok(mailbox("ani@b.example"));
    for (at, want) in [
        // Of two relays with one key, the other one is ahead at midnight.
        (made - 2, Err(NoReturn::Expired)),
        (made - 1, original.clone()),
        (made, original.clone()),
        (made + 21, original.clone()),
        (made + 22, Err(NoReturn::Expired)),
        (made + 600, Err(NoReturn::Expired)),
    ] {
        assert_eq!(read(at), want, "day {at}");
    }
    assert_eq!(srs(1).read(&address, Age::Any), Some(original));
    // Of what another one wrote, he says how long it lasts.
    let guarded = rewritten("SRS0=h=tt=a.example=x@b.example", day(made));
    assert!(srs(1).read(&guarded, Age::At(day(made + 600))).unwrap().is_ok());
}

#[test]
fn only_our_own_addresses_in_our_domain_are_read() {
    let address = rewritten("ani@b.example", Time::EPOCH);
    let read = |text: &str| srs(1).read(&mailbox(text), Age::Any);
    let local = address.local();
    assert_eq!(read(&format!("{local}@ours.example")), Some(Ok(mailbox("ani@b.example"))));
    assert_eq!(read(&format!("{local}@other.example")), None);
    assert_eq!(srs(2).read(&address, Age::Any), Some(Err(NoReturn::Forged)));
    for text in ["srs0@ours.example", "SRS0+a=b=c=d@ours.example", "srs00=a@ours.example"] {
        assert_eq!(read(text), None, "{text}");
    }
    for text in ["SRS0=@ours.example", "SRS0=AAAAAAAA@ours.example", "srs1=a=b==c@ours.example"] {
        assert_eq!(read(text), Some(Err(NoReturn::Forged)), "{text}");
    }
    // The hash of the one kind is not that of the other.
    let other = local.replacen("SRS0", "SRS1", 1);
    assert_eq!(read(&format!("{other}@ours.example")), Some(Err(NoReturn::Forged)));
}

/// Addresses of every kind: also those of other forwarders, and what must be quoted.
fn sender() -> impl Strategy<Value = Mailbox> {
    let local = prop_oneof![
        "[A-Za-z0-9=+_-]{1,20}",
        "[ -~]{1,12}",
        "[a-zäßΣİ日]{1,8}",
        "SRS0[=+-][A-Za-z0-9=]{1,20}",
        "[Ss][Rr][Ss]1[=+-][a-z]{0,4}=[a-z]{1,3}\\.example=[=+-]?[a-z=]{1,12}",
    ];
    let domain = prop::sample::select(vec!["b.example", "x-1.b.example", "münchen.example"]);
    (local, domain).prop_filter_map("no mailbox", |(local, domain)| {
        Mailbox::new(&local, Domain::parse(domain).ok()?).ok()
    })
}

/// Who is behind an address that another forwarder wrote, or this one.
fn behind(sender: &Mailbox) -> Mailbox {
    let domain = |text: &str| Domain::parse(text).unwrap();
    match Foreign::of(sender.local()) {
        None => sender.clone(),
        Some(Foreign::First { rest }) => {
            Mailbox::new(&format!("SRS0{rest}"), sender.domain().clone()).unwrap()
        }
        Some(Foreign::Guarded { first, rest }) => {
            Mailbox::new(&format!("SRS0{rest}"), domain(first)).unwrap()
        }
    }
}

proptest! {
    #[test]
    fn whoever_fits_is_found_again(sender in sender(), today in 0_u64..30_000) {
        let now = day(today);
        let Forwarded::As(address) = srs(1).forwarded(&sender, now) else { return Ok(()) };
        // As a host on the way reads it.
        let address = Mailbox::parse(&address.to_string()).unwrap();
        let want = behind(&sender);
        prop_assert_eq!(srs(1).read(&address, Age::At(now)), Some(Ok(want.clone())));
        // A host that lower-cases local parts lower-cases that inside as well.
        let lower = Mailbox::new(&address.local().to_lowercase(), address.domain().clone());
        let Ok(lower) = lower else { return Ok(()) };
        let Some(Ok(read)) = srs(1).read(&lower, Age::At(now)) else {
            return Err(TestCaseError::fail(lower.to_string()));
        };
        prop_assert_eq!(read.domain(), want.domain());
        prop_assert_eq!(read.local().to_lowercase(), want.local().to_lowercase());
    }

    #[test]
    fn nothing_else_is_read(sender in sender(), at in any::<prop::sample::Index>(), to in "[ -~]") {
        let Forwarded::As(address) = srs(1).forwarded(&sender, Time::EPOCH) else {
            return Ok(());
        };
        let mut local: Vec<char> = address.local().chars().collect();
        let place = at.index(local.len());
        local[place] = to.chars().next().unwrap();
        let local: String = local.into_iter().collect();
        let Ok(changed) = Mailbox::new(&local, address.domain().clone()) else { return Ok(()) };
        let is_same = changed.local().to_lowercase() == address.local().to_lowercase();
        let read = srs(1).read(&changed, Age::Any);
        prop_assert_eq!(matches!(read, Some(Ok(_))), is_same);
    }

    #[test]
    fn what_a_stranger_makes_up_is_never_read(rest in "[A-Za-z2-7=.-]{0,40}", tag in 0..2) {
        let local = format!("SRS{tag}={rest}");
        let Ok(made_up) = Mailbox::new(&local, srs(1).domain) else { return Ok(()) };
        prop_assert_eq!(srs(1).read(&made_up, Age::Any), Some(Err(NoReturn::Forged)));
    }
}
