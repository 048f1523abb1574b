//! What we call things: messages, deliveries, nodes, places in the journal.
//!
//! Invariant: a [`QueueId`] is never used twice, also after a crash: its epoch grows, durably, each
//! time a journal is opened, and its counter within an epoch. Pure.

use std::{fmt, str::FromStr};

/// Which node of a cluster; 0 to 4,095, 0 on a machine of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u16);

impl NodeId {
    /// The highest number of a node.
    pub const MAX: u16 = (1 << NODE_BITS) - 1;

    /// The node with this number; `None` above [`Self::MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Our name for an accepted message: 12 bits of node, 20 of journal epoch, 32 of counter.
///
/// Not the `Message-ID`, which is a header field of the originator's. Shown as 13 letters and
/// digits in Crockford's base32, which sort in the order of acceptance on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(u64);

impl QueueId {
    /// The highest journal epoch; a million restarts.
    pub const EPOCH_MAX: u32 = (1 << EPOCH_BITS) - 1;

    /// The highest counter that the spool gives to messages that come in; those above are for
    /// messages of our own making, such as reports, so that the two never meet.
    pub const GIVEN_COUNTER_MAX: u32 = u32::MAX / 2;

    /// The name made of these parts; the epoch is taken modulo 2^20.
    pub const fn new(node: NodeId, epoch: u32, counter: u32) -> Self {
        let epoch = (epoch & Self::EPOCH_MAX) as u64;
        Self(((node.0 as u64) << (EPOCH_BITS + 32)) | (epoch << 32) | counter as u64)
    }

    /// The name with exactly these bits, as the journal holds them.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 64 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; TEXT_LEN];
        for (at, octet) in text.iter_mut().enumerate() {
            let shift = 5 * (TEXT_LEN - 1 - at);
            let digit = usize::try_from((self.0 >> shift) & 31).unwrap_or(0);
            *octet = ALPHABET.get(digit).copied().unwrap_or(b'0');
        }
        f.pad(str::from_utf8(&text).unwrap_or_default())
    }
}

impl FromStr for QueueId {
    type Err = IdError;

    /// Reads either case; `O` is 0, `I` and `L` are 1, as Crockford's base32 allows.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != TEXT_LEN {
            return Err(IdError::Length);
        }
        let mut bits = 0u128;
        for octet in text.bytes() {
            let octet = match octet.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let digit = ALPHABET.iter().position(|&a| a == octet).ok_or(IdError::Letter)?;
            bits = (bits << 5) | digit as u128;
        }
        u64::try_from(bits).map(Self).map_err(|_| IdError::Range)
    }
}

/// Why a text is not a [`QueueId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdError {
    /// It does not have 13 characters.
    Length,
    /// It holds a character that is not of Crockford's base32.
    Letter,
    /// It stands for more than 64 bits.
    Range,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a queue id has 13 letters and digits",
            Self::Letter => "a queue id has only digits and letters without U",
            Self::Range => "a queue id begins with a digit or a letter up to F",
        })
    }
}

impl std::error::Error for IdError {}

/// One message to one recipient: the unit of scheduling, outcome and DSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The message.
    pub message: QueueId,
    /// The place of the recipient in the envelope as it was accepted, from 0.
    pub recipient: u32,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.recipient)
    }
}

/// The place of an event in the journal: grows by one with each, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

const NODE_BITS: u32 = 12;
const EPOCH_BITS: u32 = 20;
const TEXT_LEN: usize = 13;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_id_is_read_back_from_its_text() {
        for bits in [0, 1, 31, 32, u64::MAX, 0x0123_4567_89AB_CDEF] {
            let id = QueueId::from_bits(bits);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().to_lowercase().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_not_a_queue_id_says_why() {
        for (text, why) in [
            ("", IdError::Length),
            ("000000000000", IdError::Length),
            ("00000000000000", IdError::Length),
            ("000000000000U", IdError::Letter),
            ("000000000000-", IdError::Letter),
            ("ZZZZZZZZZZZZZ", IdError::Range),
        ] {
            assert_eq!(text.parse::<QueueId>(), Err(why), "{text}");
        }
    }

    #[test]
    fn queue_ids_sort_in_the_order_of_acceptance() {
        let node = NodeId::new(1).unwrap();
        let ids = [(1, 5), (1, 6), (2, 0)].map(|(e, c)| QueueId::new(node, e, c).to_string());
        assert!(ids.is_sorted());
    }
}
