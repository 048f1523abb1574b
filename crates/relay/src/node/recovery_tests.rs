//! A relay that takes mail while its journal cannot be read, until the test lets it.

use std::{
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use merpati_flow::{Options, route::Router};
use merpati_mail::{NodeId, Time, event::Accepted};
use merpati_spool::{
    Body, Disk, Options as SpoolOptions, Spool,
    fault::FaultyFiles,
    io::{Io, IoFile, Lock},
};

use super::*;
use crate::{
    committer::{Proposal, Told},
    health::Life,
    samples,
    sinks::{LogWriter, Target},
    store::Quota,
};

const NOW: Time = Time::from_secs(5);
const AT_ONCE: Duration = Duration::ZERO;

/// Files of which the first slot cannot be read, beyond its header, before the gate is open.
struct Gated(FaultyFiles, Arc<Gate>);

struct GatedFile(Arc<dyn IoFile>, Option<Arc<Gate>>);

#[derive(Default)]
struct Gate {
    opened: Mutex<Option<io::Result<()>>>,
    moves: Condvar,
}

impl Gate {
    fn open(&self, to: io::Result<()>) {
        *self.opened.lock().unwrap() = Some(to);
        self.moves.notify_all();
    }

    /// Until the gate is open; an error that it opened with is given to one who waits.
    fn pass(&self) -> io::Result<()> {
        let opened = self.opened.lock().unwrap();
        let waited = self.moves.wait_while(opened, |opened| opened.is_none());
        let mut opened = waited.unwrap_or_else(PoisonError::into_inner);
        opened.replace(Ok(())).unwrap_or(Ok(()))
    }
}

impl Io for Gated {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        Ok(Arc::new(GatedFile(self.0.create(file)?, None)))
    }

    fn open(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        let gate = file.ends_with("0000.seg").then(|| Arc::clone(&self.1));
        Ok(Arc::new(GatedFile(self.0.open(file)?, gate)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.0.remove(file)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }

    fn lock(&self, file: &Path) -> io::Result<Lock> {
        self.0.lock(file)
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl IoFile for GatedFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.1 {
            Some(gate) if offset > 0 => gate.pass()?,
            Some(_) | None => {}
        }
        self.0.read_at(into, offset)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.0.write_at(parts, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        self.0.allocate(octets)
    }

    fn octets(&self) -> io::Result<u64> {
        self.0.octets()
    }
}

fn begin(io: &Arc<dyn Io>) -> (Disk, Unread) {
    let mut options = SpoolOptions::new(PathBuf::from("/s"), NodeId::default());
    options.segment_bytes = 8 * 1_024;
    options.free_bytes_min = 0;
    options.in_background = false;
    Disk::begin_in(io, &options).unwrap()
}

fn accepted(id: QueueId) -> Box<Accepted> {
    Box::new(samples::accepted(id))
}

fn group(event: Event) -> Group {
    let body = Body::Bytes(vec![Bytes::from(vec![b'x'; 1_000])]);
    Group::with_body(NOW, event, body)
}

/// A relay that has just begun on a spool of several segments; some of them are behind the gate.
struct Bench {
    gate: Arc<Gate>,
    spool: Handle,
    committer: Committer,
    committer_thread: JoinHandle<()>,
    inbox: Arc<Inbox>,
    health: Arc<Health>,
    store: Arc<Store>,
    sinks: Sinks,
    unread: Option<Unread>,
    waiting: Vec<QueueId>,
    captured: QueueId,
}

impl Bench {
    fn new() -> Self {
        let files = FaultyFiles::default();
        let (mut disk, unread) = begin(&(Arc::new(files.clone()) as Arc<dyn Io>));
        unread.read(&mut |_| ControlFlow::Continue(())).unwrap().unwrap();
        let waiting: Vec<QueueId> = (0..12).map(|_| disk.next_id()).collect();
        let captured = disk.next_id();
        for id in &waiting {
            disk.append(&[group(Event::Accepted(accepted(*id)))]).unwrap();
        }
        disk.append(&[group(Event::Captured(accepted(captured)))]).unwrap();
        disk.sync().unwrap();
        assert!(disk.pressure().segments_used > 2);
        drop(disk);
        let gate = Arc::new(Gate::default());
        let gated = Gated(files.kill(), Arc::clone(&gate));
        let (disk, unread) = begin(&(Arc::new(gated) as Arc<dyn Io>));
        let (health, inbox) = (Arc::new(Health::default()), Arc::new(Inbox::default()));
        let store = Arc::new(Store::new(Quota::default()));
        let sinks = Sinks::start(Arc::default(), LogWriter::open(&Target::Off).unwrap()).unwrap();
        let told = Told {
            clock: Arc::new(Clock::start(NOW)),
            health: Arc::clone(&health),
            store: Arc::clone(&store),
            sinks: sinks.clone(),
            inbox: Arc::clone(&inbox),
        };
        health.ready();
        let spool = disk.handle();
        let (committer, committer_thread) = Committer::start(Box::new(disk), told).unwrap();
        let teller = committer.clone();
        tokio::spawn(async move { teller.tell().await });
        Self {
            gate,
            spool,
            committer,
            committer_thread,
            inbox,
            health,
            store,
            sinks,
            unread: Some(unread),
            waiting,
            captured,
        }
    }

    /// Begins to read on a thread, as the relay does.
    fn read(&mut self) -> JoinHandle<Option<Core>> {
        let hostname: merpati_mail::Domain = "mx.ours.example".parse().unwrap();
        let options = Options::new(hostname.clone(), Router { rules: Vec::new() });
        let recovering = Recovering {
            unread: self.unread.take().unwrap(),
            spool: self.spool.clone(),
            queue: queue::Fold::new(options.router.clone(), hostname),
            committer: self.committer.clone(),
            clock: Arc::new(Clock::start(NOW)),
            health: Arc::clone(&self.health),
            store: Arc::clone(&self.store),
            sinks: self.sinks.clone(),
            digest: [7; 32],
        };
        let inbox = Arc::clone(&self.inbox);
        thread::spawn(move || {
            recovering.read(&inbox, |queue, epoch| {
                Core::with_queue(options, queue, (NodeId::default(), epoch), 1)
            })
        })
    }

    async fn accept(&self) -> QueueId {
        let id = self.spool.next_id();
        let group = group(Event::Accepted(accepted(id)));
        self.committer.commit(Proposal::of(group)).await.unwrap();
        id
    }

    fn end(self) {
        self.committer.end();
        self.committer_thread.join().unwrap();
        self.sinks.end();
    }
}

#[tokio::test]
async fn mail_is_taken_while_the_journal_is_read_and_joins_its_queue() {
    let mut bench = Bench::new();
    let reading = bench.read();
    let new = [bench.accept().await, bench.accept().await];
    assert!(!bench.health.recovered(AT_ONCE).await);
    assert!(!bench.store.contains(bench.captured));
    assert!(bench.spool.read(new[0]).is_ok());
    assert!(bench.spool.read(bench.waiting[0]).is_err(), "it is not known yet");

    bench.gate.open(Ok(()));
    let core = tokio::task::spawn_blocking(move || reading.join().unwrap()).await.unwrap().unwrap();
    assert!(bench.health.recovered(AT_ONCE).await);
    assert!(bench.store.contains(bench.captured));
    let all: Vec<QueueId> = bench.waiting.iter().chain(&new).copied().collect();
    assert_eq!(core.queue().messages().collect::<Vec<_>>(), all);
    assert!(all.iter().all(|id| bench.spool.read(*id).is_ok()));
    assert_eq!(bench.health.life(), Life::Ready);
    bench.end();
}

#[tokio::test]
async fn a_relay_that_ends_before_all_is_read_keeps_what_it_took() {
    let mut bench = Bench::new();
    let reading = bench.read();
    let new = bench.accept().await;
    bench.inbox.end();
    bench.gate.open(Ok(()));
    assert!(tokio::task::spawn_blocking(move || reading.join().unwrap()).await.unwrap().is_none());
    assert!(!bench.health.recovered(AT_ONCE).await);
    assert!(bench.spool.read(new).is_ok());
    bench.end();
}

#[tokio::test]
async fn a_relay_that_drains_before_all_is_read_begins_nothing() {
    let mut bench = Bench::new();
    let reading = bench.read();
    bench.accept().await;
    bench.health.drain();
    bench.inbox.drain();
    bench.gate.open(Ok(()));
    assert!(tokio::task::spawn_blocking(move || reading.join().unwrap()).await.unwrap().is_none());
    assert!(!bench.health.recovered(Duration::from_hours(1)).await);
    bench.end();
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_ends_the_relay() {
    let mut bench = Bench::new();
    let reading = bench.read();
    bench.accept().await;
    bench.gate.open(Err(io::Error::from_raw_os_error(5)));
    assert!(tokio::task::spawn_blocking(move || reading.join().unwrap()).await.unwrap().is_none());
    let Life::Failed(why) = bench.health.life() else { panic!("it goes on") };
    assert!(why.contains("cannot be read: cannot read a segment"), "{why}");
    // Who waits for what was there learns at once that it will not come.
    assert!(!bench.health.recovered(Duration::from_hours(1)).await);
    bench.end();
}
