//! How many messages a second the journal alone takes on this disk.
//!
//! `cargo run --release -p merpati-spool --example journal_bench [DIRECTORY [MESSAGES [OCTETS]]]`
//!
//! With `fill DIRECTORY MESSAGES` it writes a spool in which so many messages wait for tomorrow, a
//! fifth of them after five attempts, for a relay to start on.
//!
//! Plays the committer: each batch is as many messages as would be in flight, appended, synced,
//! and nine of ten retired lazily with a later batch; segments are freed and carried in between.
//! The directory should be on the disk to be measured; it is emptied first and last.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "it prints figures")]

use std::{
    collections::VecDeque,
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use merpati_mail::{
    Attempt, BodyType, Cause, Class, Envelope, Event, ForwardPath, Mailbox, NodeId, Origin,
    Outcome, Overlay, Protocol, QueueId, Recipient, Reply, ReversePath, Scope, Time,
    envelope::Utf8,
    event::{Accepted, Attempted, Carried},
};
use merpati_spool::{Body, Disk, Group, Options, Spool};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq("fill").is_some() {
        let (Some(dir), Some(messages)) = (args.next(), args.next()) else {
            return Err("fill takes a directory and a number of messages".into());
        };
        return fill(&PathBuf::from(dir), messages.parse()?);
    }
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "/var/tmp/journal_bench".to_owned()));
    let messages: usize = args.next().map_or(Ok(20_000), |text| text.parse())?;
    let octets: usize = args.next().map_or(Ok(10 * 1_024), |text| text.parse())?;
    println!("{messages} messages of {octets} octets in {}", dir.display());
    println!("in flight     msgs/s  sync mean  sync p99  append mean  recovery");
    for round in 0..3 {
        for in_flight in [64, 256] {
            measure(&dir.join("spool"), messages, octets, in_flight)?;
        }
        println!("round {} done", round + 1);
    }
    Ok(())
}

fn measure(
    dir: &Path,
    messages: usize,
    octets: usize,
    in_flight: usize,
) -> Result<(), Box<dyn Error>> {
    clear(dir)?;
    let mut options = Options::new(dir.to_owned(), NodeId::default());
    options.segments_ready = 6;
    let (mut disk, _) = Disk::open(&options, &mut |_| ())?;
    let body = Bytes::from(vec![b'x'; octets]);
    let template = accepted(disk.next_id(), octets as u64)?;
    let mut living = VecDeque::new();
    let (mut syncs, mut appends) = (Vec::new(), Duration::ZERO);
    let began = Instant::now();
    let mut stored = 0;
    while stored < messages {
        let mut groups = Vec::with_capacity(2 * in_flight);
        for _ in 0..in_flight.min(messages - stored) {
            let id = disk.next_id();
            let event = Event::Accepted(Box::new(Accepted { id, ..template.clone() }));
            let body = Body::Bytes(vec![body.clone()]);
            groups.push(Group::with_body(Time::from_secs(1), event, body));
            stored += 1;
            if stored % 10 != 0 {
                living.push_back(id);
            }
        }
        let retired = living.len().saturating_sub(8 * in_flight);
        groups.extend(
            living.drain(..retired).map(|id| Group::of(Time::from_secs(2), Event::Retired(id))),
        );
        let at = Instant::now();
        disk.append(&groups)?;
        let appended = at.elapsed();
        disk.sync()?;
        appends += appended;
        syncs.push(at.elapsed().saturating_sub(appended));
        carry(&mut disk, &template)?;
    }
    let took = began.elapsed();
    drop(disk);
    let at = Instant::now();
    let (disk, recovery) = Disk::open(&options, &mut |_| ())?;
    let recovered = at.elapsed();
    drop(disk);
    syncs.sort_unstable();
    let mean = syncs.iter().sum::<Duration>() / u32::try_from(syncs.len())?;
    println!(
        "{in_flight:>9} {:>10.0} {mean:>10.1?} {:>9.1?} {:>12.1?} {recovered:>9.1?} ({} records)",
        messages as f64 / took.as_secs_f64(),
        syncs.get(syncs.len() * 99 / 100).copied().unwrap_or_default(),
        appends / u32::try_from(syncs.len())?,
        recovery.records,
    );
    clear(dir)
}

/// Writes messages that wait for tomorrow, each to a mailbox of its own.
fn fill(dir: &Path, messages: usize) -> Result<(), Box<dyn Error>> {
    let now = Time::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let (mut disk, _) = Disk::open(&Options::new(dir.to_owned(), NodeId::default()), &mut |_| ())?;
    let body = Bytes::from_static(b"Subject: x\r\n\r\nx\r\n");
    let mut template = accepted(disk.next_id(), body.len() as u64)?;
    template.envelope.origin.received_at = now;
    let mut groups = Vec::with_capacity(FILLED_AT_ONCE);
    for number in 0..messages {
        let id = disk.next_id();
        let mut accepted = Accepted { id, ..template.clone() };
        let to = Mailbox::parse(&format!("recipient-{number}@example.net"))?;
        accepted.envelope.recipients = vec![Recipient::new(ForwardPath::Mailbox(to))];
        let event = Event::Accepted(Box::new(accepted));
        groups.push(Group::with_body(now, event, Body::Bytes(vec![body.clone()])));
        let attempts = if number % 5 == 0 { 5 } else { 1 };
        groups.extend((1..=attempts).map(|attempt| Group::of(now, deferred(id, attempt, now))));
        if groups.len() >= FILLED_AT_ONCE || number + 1 == messages {
            disk.append(&groups)?;
            disk.sync()?;
            disk.maintain()?;
            groups.clear();
        }
    }
    Ok(())
}

fn deferred(message: QueueId, number: u32, now: Time) -> Event {
    let cause = Cause {
        class: Class::Connection,
        scope: Scope::Host,
        reply: Reply::new(451, (4, 4, 1), "the host cannot be reached"),
        remote: None,
    };
    let until = now + Duration::from_hours(24);
    Event::Attempted(Box::new(Attempted {
        message,
        attempt: Attempt { number, path: None, began: now, ended: now, tls: None, policy: None },
        outcomes: vec![(0, Outcome::Deferred { cause, until })],
    }))
}

fn carry(disk: &mut Disk, template: &Accepted) -> Result<(), Box<dyn Error>> {
    disk.maintain()?;
    let wanted = disk.carry_wanted(64);
    let told = wanted.into_iter().map(|id| {
        let accepted = Accepted { id, ..template.clone() };
        let carried = Carried { accepted, deliveries: Vec::new() };
        Group::with_body(Time::from_secs(3), Event::Carried(Box::new(carried)), Body::Same)
    });
    disk.append(&told.collect::<Vec<_>>())?;
    Ok(())
}

fn accepted(id: QueueId, size_bytes: u64) -> Result<Accepted, Box<dyn Error>> {
    let to = ForwardPath::Mailbox(Mailbox::parse("recipient@example.net")?);
    Ok(Accepted {
        id,
        envelope: Envelope {
            reverse_path: ReversePath(Some(Mailbox::parse("originator@example.org")?)),
            recipients: vec![Recipient::new(to)],
            body: BodyType::SevenBit,
            utf8: Utf8::NotDeclared,
            ret: None,
            envid: None,
            requests: merpati_mail::Requests::default(),
            origin: Origin {
                listener: "mx".to_owned(),
                peer: None,
                credential: None,
                protocol: Protocol::Esmtp,
                tls: None,
                received_at: Time::from_secs(1),
            },
        },
        edits: Overlay { prepend: vec![b'r'; 200], remove: Vec::new() },
        size_bytes,
    })
}

fn clear(dir: &Path) -> Result<(), Box<dyn Error>> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Groups of one append while a spool is filled.
const FILLED_AT_ONCE: usize = 4_096;
