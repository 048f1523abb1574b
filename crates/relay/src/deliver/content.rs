//! What is sent of a message: its content with the edits applied, in pieces.
//!
//! Invariant: flat memory; of a content in a file one piece at a time is held. Not pure: reads.

use bytes::{Bytes, BytesMut};
use merpati_mail::{
    BodyType, Overlay,
    header::{self, Field},
};
use merpati_smtp::client::EightBit;
use merpati_spool::{BodyFile, SpoolError};
use tokio::task::spawn_blocking;

/// The original content of a message.
#[derive(Clone, Debug)]
pub enum Content {
    /// All of it.
    Bytes(Bytes),
    /// A file, to be read in pieces.
    File(BodyFile),
}

/// A message as it is sent.
pub(super) struct Outgoing {
    /// The edited message, or the edited beginning of a large one.
    first: Vec<Bytes>,
    /// The rest of a large one, from this octet on.
    rest: Option<(BodyFile, u64)>,
    /// Octets in all.
    pub(super) size_octets: u64,
    /// Whether an octet above 127 occurs anywhere.
    pub(super) eight_bit: EightBit,
    /// The `BODY` with which it goes; `None`: as it came.
    pub(super) body: Option<BodyType>,
    /// Whether one occurs in the header.
    pub(super) header: EightBit,
}

impl Outgoing {
    /// The message with these edits. A large one is read twice; errs where its checksum is wrong.
    pub(super) async fn new(content: Content, edits: &Overlay) -> Result<Self, SpoolError> {
        let (beginning, rest, length) = match content {
            Content::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (bytes, None, length)
            }
            Content::File(file) => {
                let length = file.len();
                check(file.clone()).await?;
                // What is left out lies in it, and what shows that a header is behind that.
                let removed = edits.remove.last().map_or(0, |range| u64::from(range.end));
                let octets = removed + PIECE_OCTETS as u64;
                let beginning = piece(file.clone(), 0, octets).await?;
                let at = beginning.len() as u64;
                (beginning, Some((file, at)), length)
            }
        };
        let first: Vec<Bytes> = edits
            .slices(&beginning)
            .map(|slice| {
                if beginning.as_ptr_range().contains(&slice.as_ptr()) {
                    beginning.slice_ref(slice)
                } else {
                    Bytes::copy_from_slice(slice)
                }
            })
            .collect();
        let size_octets = edits.len(length, &beginning);
        let mut outgoing = Self {
            first,
            rest,
            size_octets,
            eight_bit: EightBit::Absent,
            body: None,
            header: EightBit::Absent,
        };
        if outgoing.has_eight_bit().await? {
            outgoing.eight_bit = EightBit::Present;
            let end =
                header::fields(&beginning).last().map_or(0, |field: Field<'_>| field.range.end);
            let is_ascii = beginning.get(..end).is_none_or(<[u8]>::is_ascii);
            outgoing.header = if is_ascii { EightBit::Absent } else { EightBit::Present };
        }
        Ok(outgoing)
    }

    /// A message that is in memory as a whole, with nothing to be edited.
    pub(super) fn whole(message: Vec<u8>) -> Self {
        let size_octets = message.len() as u64;
        let eight_bit = if message.is_ascii() { EightBit::Absent } else { EightBit::Present };
        let first = vec![Bytes::from(message)];
        let body = Some(BodyType::SevenBit);
        Self { first, rest: None, size_octets, eight_bit, body, header: EightBit::Absent }
    }

    /// The same octets, said to be of 7 bits.
    pub(super) fn as_seven_bit(&self) -> Self {
        Self {
            first: self.first.clone(),
            rest: self.rest.clone(),
            size_octets: self.size_octets,
            eight_bit: EightBit::Absent,
            body: Some(BodyType::SevenBit),
            header: self.header,
        }
    }

    /// All octets, where there are no more than so many.
    pub(super) async fn all(&self, octets_max: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        if self.size_octets > octets_max {
            return Ok(None);
        }
        let mut all: Vec<u8> = self.first.concat();
        let mut pieces = self.pieces();
        while let Some(piece) = pieces.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(Some(all))
    }

    /// The pieces that are in memory.
    pub(super) fn first(&self) -> &[Bytes] {
        &self.first
    }

    /// The pieces behind them.
    pub(super) fn pieces(&self) -> Pieces {
        Pieces { rest: self.rest.clone() }
    }

    async fn has_eight_bit(&self) -> Result<bool, SpoolError> {
        if !self.first.iter().all(|slice| slice.is_ascii()) {
            return Ok(true);
        }
        let mut pieces = self.pieces();
        while let Some(piece) = pieces.next().await? {
            if !piece.is_ascii() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The rest of a large content.
pub(super) struct Pieces {
    rest: Option<(BodyFile, u64)>,
}

impl Pieces {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        let Some((file, at)) = self.rest.take() else { return Ok(None) };
        let piece = piece(file.clone(), at, PIECE_OCTETS as u64).await?;
        if piece.is_empty() {
            return Ok(None);
        }
        self.rest = Some((file, at + piece.len() as u64));
        Ok(Some(piece))
    }
}

/// What went bad on the disk must not go out.
async fn check(file: BodyFile) -> Result<(), SpoolError> {
    spawn_blocking(move || file.check()).await.unwrap_or(Err(SpoolError::Poisoned))
}

async fn piece(file: BodyFile, at: u64, octets_max: u64) -> Result<Bytes, SpoolError> {
    let octets = octets_max.min(file.len().saturating_sub(at));
    let read = spawn_blocking(move || {
        let mut piece = BytesMut::zeroed(usize::try_from(octets).unwrap_or(0));
        let count = file.read_at(&mut piece, at)?;
        piece.truncate(count);
        Ok(piece.freeze())
    });
    read.await.unwrap_or(Err(SpoolError::Poisoned))
}

/// How much of a large content is in memory at once.
const PIECE_OCTETS: usize = 64 << 10;
