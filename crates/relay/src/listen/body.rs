//! Where content goes while it arrives: into memory, or into a file of the spool where it is large.
//!
//! Invariant: a connection holds at most [`LARGE_OCTETS`] of a content in memory, but for the few
//! at once that are repaired, and a content that is not finished leaves nothing behind. Not pure:
//! the file.

use bytes::Bytes;
use merpati_auth::{BodyHash, BodyHasher, BodyHashes, Message};
use merpati_flow::{admit::Head, repair};
use merpati_mail::{QueueId, Verdict, transfer::LongestLine};
use merpati_spool::{Body, Handle, LARGE_BODY_BYTES, LargeBody, SpoolError};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::world::Looked;

/// The content of the message that is arriving.
#[derive(Debug, Default)]
pub(super) struct Collector {
    /// All of a small content; of a large one what is not written yet.
    pending: Vec<u8>,
    large: Option<Box<Large>>,
    /// `None` where nobody asks for it.
    longest_line: Option<LongestLine>,
    /// For what its body is hashed.
    hashes: Hashes,
    /// Why the content cannot be kept; it is told at the end of data.
    failed: Option<SpoolError>,
}

#[derive(Debug)]
struct Large {
    id: QueueId,
    /// The beginning, for what looks at the header.
    head: Vec<u8>,
    octets: u64,
    file: Option<LargeBody>,
    /// Hashes the body as the signatures want it; `None` where nobody looks at them.
    hasher: Option<BodyHasher>,
}

/// For what a body is hashed while it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hashes {
    /// For the signatures that it bears.
    pub(super) to_check: bool,
    /// For one of ours.
    pub(super) to_sign: bool,
}

impl Hashes {
    /// What hashes the body behind this header; `None` where nobody wants it.
    fn hasher(self, head: &[u8]) -> Option<BodyHasher> {
        let hasher = match self {
            Self { to_check: false, to_sign: false } => return None,
            Self { to_check: true, to_sign: false } => Message::read(head).body_hasher(),
            Self { to_check: true, to_sign: true } => {
                Message::read(head).body_hasher().and_signing()
            }
            Self { to_check: false, to_sign: true } => Message::signing_hasher(),
        };
        (!hasher.is_idle()).then_some(hasher)
    }
}

/// A content that is complete.
#[derive(Debug)]
pub(super) struct Collected {
    /// The name of the message: a large content has had it from its first octets on.
    pub(super) id: QueueId,
    /// The content, or the beginning of a large one with its header: [`Head::octets_needed`].
    pub(super) head: Bytes,
    /// All octets.
    pub(super) size_bytes: u64,
    /// Octets of the longest line, without its CRLF; 0 where nobody asked.
    pub(super) longest_line: u64,
    /// For the spool.
    pub(super) body: Body,
    /// The hashes of the body of a large content; `None` of a small one, and where nobody asked.
    pub(super) hashes: Option<BodyHashes>,
    /// What was found out about who sent it; `None` where nobody looked.
    pub(super) looked: Option<Looked>,
}

/// Why a content cannot be repaired.
#[derive(Debug)]
pub(super) enum NotRepaired {
    /// It is not taken.
    Refused(Verdict),
    /// The spool fails.
    Spool(SpoolError),
}

impl Collector {
    /// With nothing in it, for contents whose lines are measured or not, and whose bodies are
    /// hashed for this.
    pub(super) fn new(asks_for_lines: bool, hashes: Hashes) -> Self {
        let longest_line = asks_for_lines.then(LongestLine::default);
        Self { longest_line, hashes, ..Self::default() }
    }

    /// Adds octets. `announced` is what the client said the content will have.
    pub(super) async fn push(&mut self, octets: &[u8], announced: Option<u64>, spool: &Handle) {
        if self.failed.is_some() {
            return;
        }
        if let Some(longest_line) = &mut self.longest_line {
            longest_line.push(octets);
        }
        if self.pending.capacity() == 0 {
            // Whatever is announced may not come: room grows with what does.
            let announced = usize::try_from(announced.unwrap_or(0)).unwrap_or(usize::MAX);
            self.pending.reserve(octets.len().max(announced.min(START_OCTETS)));
        }
        // Before it grows: a thousand connections hold a quarter of a GiB, and not twice that.
        if !self.pending.is_empty() && self.pending.len() + octets.len() > LARGE_OCTETS {
            self.spill(spool).await;
        }
        self.pending.extend_from_slice(octets);
        if self.pending.len() > LARGE_OCTETS {
            self.spill(spool).await;
        }
    }

    /// How much is held in memory now.
    pub(super) fn is_long(&self) -> bool {
        self.large.is_some() || self.pending.len() > START_OCTETS
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.longest_line.is_some(), self.hashes);
    }

    /// The whole content; the collector is empty again.
    pub(super) async fn finish(&mut self, spool: &Handle) -> Result<Collected, SpoolError> {
        if self.large.is_some() {
            self.spill(spool).await;
        }
        let next = Self::new(self.longest_line.is_some(), self.hashes);
        let Self { pending, large, longest_line, hashes: _, failed } =
            std::mem::replace(self, next);
        let longest_line = longest_line.map_or(0, |line| line.octets());
        if let Some(error) = failed {
            return Err(error);
        }
        let Some(mut large) = large else {
            let mut pending = pending;
            // It may wait in memory for a while, and most contents are smaller than our guess.
            if pending.capacity() > pending.len() + pending.len() / 4 {
                pending.shrink_to_fit();
            }
            let content = Bytes::from(pending);
            let body = match content.len() {
                0 => Body::None,
                _ => Body::Bytes(vec![content.clone()]),
            };
            let size_bytes = content.len() as u64;
            let id = spool.next_id();
            return Ok(Collected {
                id,
                head: content,
                size_bytes,
                longest_line,
                body,
                hashes: None,
                looked: None,
            });
        };
        let file = large.file.take().ok_or(SpoolError::Poisoned)?;
        let finished = spawn_blocking(move || file.finish()).await;
        let body = Body::File(finished.map_err(|_| lost())??);
        let (id, size_bytes) = (large.id, large.octets);
        let hashes = large.hasher.map(BodyHasher::finish);
        let head = Bytes::from(large.head);
        Ok(Collected { id, head, size_bytes, longest_line, body, hashes, looked: None })
    }

    /// Moves what is pending into the file.
    async fn spill(&mut self, spool: &Handle) {
        let pending = std::mem::take(&mut self.pending);
        let large = self.large.get_or_insert_with(|| {
            let head = pending.get(..Head::octets_needed(&pending)).unwrap_or_default().to_vec();
            let hasher = self.hashes.hasher(&pending);
            Box::new(Large { id: spool.next_id(), head, octets: 0, file: None, hasher })
        });
        // Of the first piece only what is behind the header.
        let body_start = match large.octets {
            0 if large.hasher.is_some() => Message::read(&pending).body_start(),
            _ => 0,
        };
        large.octets += pending.len() as u64;
        let (id, file, spool) = (large.id, large.file.take(), spool.clone());
        let mut hasher = large.hasher.take();
        let written = spawn_blocking(move || -> Result<_, SpoolError> {
            if let Some(hasher) = &mut hasher {
                hasher.push(pending.get(body_start..).unwrap_or_default());
            }
            let mut file = match file {
                Some(file) => file,
                None => spool.large(id)?,
            };
            file.write(&pending)?;
            let mut pending = pending;
            pending.clear();
            Ok((file, pending, hasher))
        })
        .await;
        match written.map_err(|_| lost()) {
            Ok(Ok((file, pending, hasher))) => {
                (large.file, large.hasher) = (Some(file), hasher);
                self.pending = pending;
            }
            Ok(Err(error)) | Err(error) => {
                self.large = None;
                self.failed = Some(error);
            }
        }
    }
}

impl Collected {
    /// The hashes of the body as the signatures of the message, which this is, want it.
    pub(super) fn hashes(&self, message: &Message<'_>) -> BodyHashes {
        match (&self.hashes, &self.body) {
            (Some(hashes), _) => hashes.clone(),
            (None, Body::File(_)) => BodyHashes::default(),
            (None, Body::Bytes(_) | Body::None | Body::Same) => {
                let mut hasher = message.body_hasher();
                hasher.push(self.head.get(message.body_start()..).unwrap_or_default());
                hasher.finish()
            }
        }
    }

    /// The hash of the body for a signature of ours; `None` where it was not taken.
    pub(super) fn signing_hash(&self) -> Option<BodyHash> {
        match (&self.hashes, &self.body) {
            (Some(hashes), _) => hashes.signing(),
            (None, Body::File(_)) => None,
            (None, Body::Bytes(_) | Body::None | Body::Same) => {
                let mut hasher = Message::signing_hasher();
                let start = Message::read(&self.head).body_start();
                hasher.push(self.head.get(start..).unwrap_or_default());
                hasher.finish().signing()
            }
        }
    }

    /// The content as it is kept, where [`repair::is_needed`] says that something may be wrong
    /// with it. One above [`REPAIRED_OCTETS_MAX`] stays as it is: it would be in memory three
    /// times. `permits` says how many may be so at once.
    pub(super) async fn repaired(
        self,
        spool: &Handle,
        permits: &Semaphore,
    ) -> Result<Self, NotRepaired> {
        // Nobody closes it.
        let _permit = permits.acquire().await.map_err(|_| NotRepaired::Spool(lost()))?;
        let content = match &self.body {
            Body::File(file) if file.len() > REPAIRED_OCTETS_MAX => {
                return match repair::check_unrepaired(&self.head) {
                    Ok(()) => Ok(self),
                    Err(verdict) => Err(NotRepaired::Refused(verdict)),
                };
            }
            Body::File(file) => {
                let file = file.clone();
                let read = spawn_blocking(move || -> Result<_, SpoolError> {
                    let mut content = vec![0; usize::try_from(file.len()).unwrap_or(0)];
                    let count = file.read_at(&mut content, 0)?;
                    content.truncate(count);
                    Ok(Bytes::from(content))
                });
                read.await.map_err(|_| lost()).flatten().map_err(NotRepaired::Spool)?
            }
            Body::Bytes(_) | Body::None | Body::Same => self.head.clone(),
        };
        let repaired = spawn_blocking(move || repair::repaired(&content)).await;
        match repaired.map_err(|_| NotRepaired::Spool(lost()))? {
            Ok(None) => Ok(self),
            Ok(Some(content)) => Self::again(&content, spool).await.map_err(NotRepaired::Spool),
            Err(verdict) => Err(NotRepaired::Refused(verdict)),
        }
    }

    /// The same content for another message of this name.
    pub(super) async fn copied(&self, id: QueueId, spool: &Handle) -> Result<Body, SpoolError> {
        let Body::File(file) = &self.body else { return Ok(self.body.clone()) };
        let (file, spool) = (file.clone(), spool.clone());
        let copied = spawn_blocking(move || -> Result<_, SpoolError> {
            let mut copy = spool.large(id)?;
            let mut piece = vec![0; LARGE_OCTETS];
            let mut at = 0;
            while at < file.len() {
                let count = file.read_at(&mut piece, at)?;
                copy.write(piece.get(..count).unwrap_or_default())?;
                at += count as u64;
            }
            copy.finish()
        });
        Ok(Body::File(copied.await.map_err(|_| lost()).flatten()?))
    }

    /// Collects a content that is there as a whole.
    async fn again(content: &[u8], spool: &Handle) -> Result<Self, SpoolError> {
        // Only what its author hands over is repaired, and that may be signed.
        let mut collector = Collector::new(true, Hashes { to_check: false, to_sign: true });
        for piece in content.chunks(LARGE_OCTETS) {
            collector.push(piece, Some(content.len() as u64), spool).await;
        }
        collector.finish(spool).await
    }
}

fn lost() -> SpoolError {
    SpoolError::Poisoned
}

/// Room for a content whose size is not known.
const START_OCTETS: usize = 16 << 10;
/// Above it a content goes to a file of its own, in pieces of at most this length.
const LARGE_OCTETS: usize = LARGE_BODY_BYTES;
/// A longer content is not repaired.
const REPAIRED_OCTETS_MAX: u64 = 16 << 20;
