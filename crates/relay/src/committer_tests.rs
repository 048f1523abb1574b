use merpati_mail::{Attempt, Cause, Class, NodeId, Scope, Time, event::Attempted};
use merpati_spool::{Memory, MemoryOptions};

use super::*;
use crate::{
    health::Life,
    samples,
    sinks::{LogWriter, Target},
    store::Quota,
};

struct Bench {
    committer: Committer,
    health: Arc<Health>,
    ids: merpati_spool::Handle,
    thread: Option<JoinHandle<()>>,
}

fn bench(spool: Memory) -> Bench {
    let health = Arc::new(Health::default());
    health.ready();
    let writer = LogWriter::open(&Target::Off).unwrap();
    let told = Told {
        clock: Arc::new(Clock::start(Time::EPOCH)),
        health: Arc::clone(&health),
        store: Arc::new(Store::new(Quota::default())),
        sinks: Sinks::start(Arc::default(), writer).unwrap(),
        inbox: Arc::default(),
    };
    let ids = spool.handle();
    let (committer, thread) = Committer::start(Box::new(spool), told).unwrap();
    let teller = committer.clone();
    tokio::spawn(async move { teller.tell().await });
    Bench { committer, health, ids, thread: Some(thread) }
}

impl Bench {
    async fn commit(&self) -> Result<(), Refused> {
        let accepted = samples::accepted(self.ids.next_id());
        let body = Body::Bytes(vec![bytes::Bytes::from_static(b"x\r\n")]);
        let event = Event::Captured(Box::new(accepted));
        let group = Group::with_body(Time::EPOCH, event, body);
        self.committer.commit(Proposal::of(group)).await
    }
}

#[tokio::test]
async fn what_is_committed_is_durable_and_counted() {
    let mut bench = bench(Memory::new(NodeId::default()).unwrap());
    for _ in 0..10 {
        assert_eq!(bench.commit().await, Ok(()));
    }
    bench.committer.end();
    bench.thread.take().unwrap().join().unwrap();
    assert_eq!(bench.commit().await, Err(Refused::Poisoned), "nothing is taken at the end");
}

#[tokio::test]
async fn the_thread_beats_until_it_ends() {
    let mut bench = bench(Memory::new(NodeId::default()).unwrap());
    assert!(bench.committer.beat().await);
    bench.committer.end();
    bench.thread.take().unwrap().join().unwrap();
    assert!(!bench.committer.beat().await);
}

#[tokio::test]
async fn a_failed_sync_refuses_everybody_for_ever() {
    let mut spool = Memory::new(NodeId::default()).unwrap();
    spool.fail_next_sync();
    let mut bench = bench(spool);
    for _ in 0..3 {
        assert_eq!(bench.commit().await, Err(Refused::Poisoned));
    }
    bench.thread.take().unwrap().join().unwrap();
    assert!(matches!(bench.health.life(), Life::Failed(_)));
}

/// Whatever hosts say, and to however many recipients: a decision of ours ends no process.
#[tokio::test]
async fn a_decision_that_is_too_large_is_kept_with_less_of_what_hosts_said() {
    let options = MemoryOptions { segment_bytes: 65_536, segments_max: 64 };
    let bench = bench(Memory::with(NodeId::default(), options).unwrap());
    let reply = || Reply::with_text(550, (5, 1, 1), "\u{fffd}".repeat(600));
    let cause = || Cause {
        class: Class::MailboxUnknown,
        scope: Scope::Recipient,
        reply: reply(),
        remote: None,
    };
    let at = Time::EPOCH;
    let attempt = Attempt { number: 1, path: None, began: at, ended: at, tls: None, policy: None };
    let outcomes = (0..350).map(|n| (n, Outcome::Failed { cause: cause() })).collect();
    let message = bench.ids.next_id();
    let attempted = Event::Attempted(Box::new(Attempted { message, attempt, outcomes }));
    bench.committer.propose([(Token::default(), Group::of(at, attempted))]);
    assert_eq!(bench.commit().await, Ok(()), "the journal goes on");
    assert_eq!(bench.health.life(), Life::Ready);
}

#[tokio::test]
async fn a_full_spool_refuses_new_mail_and_goes_on() {
    let options = MemoryOptions { segment_bytes: 8_192, segments_max: 4 };
    let bench = bench(Memory::with(NodeId::default(), options).unwrap());
    let mut taken = 0;
    while bench.commit().await == Ok(()) {
        taken += 1;
        assert!(taken < 10_000, "it never fills up");
    }
    assert_eq!(bench.commit().await, Err(Refused::Full));
    assert_eq!(bench.health.life(), Life::Ready);
    let lazy = Group::of(Time::EPOCH, Event::ConfigChanged { digest: [0; 32] });
    assert_eq!(bench.committer.commit_lazily(lazy), Ok(()));
}
