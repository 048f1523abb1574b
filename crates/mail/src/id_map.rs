//! A map from [`QueueId`] that costs little more than its values, for queues of millions.
//!
//! Invariant: names that were given one after the other lie side by side: a page holds up to
//! [`PAGE_IDS`] of them, its values in the order of the names and nothing between them. A page
//! without a value is gone. Iteration is in the order of the names. Pure.

use std::collections::BTreeMap;

use crate::QueueId;

/// A map from [`QueueId`], ordered; dense where the names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap<V> {
    pages: BTreeMap<u64, Page<V>>,
    len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page<V> {
    /// Bit n: whether the n-th name of this page has a value.
    present: u64,
    /// The values of the names that are present.
    values: Vec<V>,
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> IdMap<V> {
    /// An empty map, which takes no memory.
    pub const fn new() -> Self {
        Self { pages: BTreeMap::new(), len: 0 }
    }

    /// How many names have a value.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no name has a value.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this name has a value.
    pub fn contains(&self, id: QueueId) -> bool {
        self.get(id).is_some()
    }

    /// The value of a name.
    pub fn get(&self, id: QueueId) -> Option<&V> {
        let (number, bit) = split(id);
        let page = self.pages.get(&number)?;
        page.place(bit).and_then(|at| page.values.get(at))
    }

    /// The value of a name, to be changed.
    pub fn get_mut(&mut self, id: QueueId) -> Option<&mut V> {
        let (number, bit) = split(id);
        let page = self.pages.get_mut(&number)?;
        page.place(bit).and_then(|at| page.values.get_mut(at))
    }

    /// Gives a name a value; the one that it had before comes back.
    pub fn insert(&mut self, id: QueueId, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(id) {
            return Some(std::mem::replace(old, value));
        }
        let (number, bit) = split(id);
        let page = self.pages.entry(number).or_default();
        page.values.insert(page.below(bit), value);
        page.present |= bit;
        self.len += 1;
        None
    }

    /// Takes the value of a name away.
    pub fn remove(&mut self, id: QueueId) -> Option<V> {
        let (number, bit) = split(id);
        let page = self.pages.get_mut(&number)?;
        let value = page.values.remove(page.place(bit)?);
        page.present &= !bit;
        if page.present == 0 {
            self.pages.remove(&number);
        } else if page.values.len() <= page.values.capacity() / 4 {
            // What is left of an old page does not hold the memory of a full one.
            page.values.shrink_to(2 * page.values.len());
        }
        self.len -= 1;
        Some(value)
    }

    /// Every name with its value, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (QueueId, &V)> {
        self.pages.iter().flat_map(|(&number, page)| names(number, page.present).zip(&page.values))
    }

    /// Keeps only what `keeps` says.
    pub fn retain(&mut self, mut keeps: impl FnMut(QueueId, &V) -> bool) {
        let gone: Vec<QueueId> =
            self.iter().filter(|(id, value)| !keeps(*id, value)).map(|(id, _)| id).collect();
        for id in gone {
            self.remove(id);
        }
    }
}

impl<V> Page<V> {
    /// How many of its values come before this bit.
    const fn below(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn place(&self, bit: u64) -> Option<usize> {
        (self.present & bit != 0).then(|| self.below(bit))
    }
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self { present: 0, values: Vec::new() }
    }
}

/// The page of a name, and its bit there.
const fn split(id: QueueId) -> (u64, u64) {
    (id.bits() / PAGE_IDS, 1 << (id.bits() % PAGE_IDS))
}

fn names(number: u64, present: u64) -> impl Iterator<Item = QueueId> {
    let bits = (0..PAGE_IDS).filter(move |n| present & (1 << n) != 0);
    bits.map(move |n| QueueId::from_bits(number * PAGE_IDS + n))
}

/// Names of a page: the bits of a `u64`.
const PAGE_IDS: u64 = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::IdMap;
    use crate::{Draw, QueueId};

    #[test]
    fn it_is_the_ordered_map_that_everybody_knows() {
        let mut draw = Draw::new(7);
        let (mut mine, mut theirs) = (IdMap::new(), BTreeMap::new());
        for step in 0..20_000u64 {
            // Dense at the beginning of the epoch, at its end, and in another epoch.
            let base = match draw.below(3) {
                0 => 0,
                1 => u64::from(u32::MAX) - 100,
                _ => 5 << 32,
            };
            let id = QueueId::from_bits(base + draw.below(300));
            if draw.chance(50) {
                assert_eq!(mine.insert(id, step), theirs.insert(id, step));
            } else {
                assert_eq!(mine.remove(id), theirs.remove(&id));
            }
            assert_eq!(mine.get(id), theirs.get(&id));
            assert_eq!(mine.len(), theirs.len());
            assert_eq!(mine.is_empty(), theirs.is_empty());
        }
        let all: Vec<(QueueId, u64)> = mine.iter().map(|(id, value)| (id, *value)).collect();
        assert_eq!(all, theirs.clone().into_iter().collect::<Vec<_>>());
        mine.retain(|id, value| (id.bits() + value) % 3 == 0);
        theirs.retain(|id, value| (id.bits() + *value) % 3 == 0);
        let left: Vec<(QueueId, u64)> = mine.iter().map(|(id, value)| (id, *value)).collect();
        assert_eq!(left, theirs.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_gone_holds_no_memory() {
        let mut map = IdMap::new();
        for bits in 0..64 {
            map.insert(QueueId::from_bits(bits), bits);
        }
        for bits in 1..64 {
            map.remove(QueueId::from_bits(bits));
        }
        assert!(map.pages[&0].values.capacity() <= 4);
        map.remove(QueueId::from_bits(0));
        assert!(map.pages.is_empty());
    }
}
