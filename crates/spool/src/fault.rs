//! A file system in memory that forgets, tears, fails and stops: for tests and simulation.
//!
//! Invariant: after [`FaultyFiles::crash`], what a sync covered is as it was; each sector of 512
//! octets and each name written since is kept, dropped or (sectors only) torn by lot.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use merpati_mail::Draw;

use crate::io::{Io, IoFile, Lock};

/// The files that one process sees; after a crash the old process sees nothing any more.
#[derive(Clone)]
pub struct FaultyFiles {
    world: Arc<Mutex<World>>,
    process: u64,
}

/// What happens at a planned call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Power is lost in the middle of it; every later call fails.
    Crash,
    /// It fails; a write may be half done, a sync has covered nothing.
    Failure,
    /// There is no room.
    NoRoom,
}

/// What fails when it comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Sync,
    Write,
}

#[derive(Default)]
struct World {
    process: u64,
    calls: u64,
    plan: Option<(u64, Trouble)>,
    fails_next: Option<Fails>,
    ignores_sync: bool,
    is_down: bool,
    free_bytes: u64,
    drawn: u64,
    locks: BTreeSet<PathBuf>,
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
}

/// A file: what the kernel shows, and what the disk still has of the sectors that differ.
#[derive(Default)]
struct Node {
    octets: Vec<u8>,
    len: u64,
    durable_len: u64,
    durable: BTreeMap<usize, Vec<u8>>,
}

impl Default for FaultyFiles {
    fn default() -> Self {
        let world = World { free_bytes: u64::MAX, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)), process: 0 }
    }
}

impl FaultyFiles {
    /// Power is lost now: gives what a new process finds.
    #[must_use = "the old process sees nothing any more"]
    pub fn crash(&self, draw: &mut Draw) -> Self {
        let mut world = self.lock_world();
        for node in world.nodes.values_mut() {
            node.crash(draw);
        }
        let paths: BTreeSet<PathBuf> =
            world.names.keys().chain(world.durable_names.keys()).cloned().collect();
        let mut survived = BTreeMap::new();
        for path in paths {
            let (now, durable) = (world.names.get(&path), world.durable_names.get(&path));
            let node = if now == durable || draw.chance(50) { now } else { durable };
            if let Some(node) = node {
                survived.insert(path, *node);
            }
        }
        world.nodes.retain(|number, _| survived.values().any(|kept| kept == number));
        world.names.clone_from(&survived);
        world.durable_names = survived;
        self.new_process(&mut world)
    }

    /// The process dies now, and the machine goes on: nothing is lost, but nothing is durable
    /// either that was not.
    #[must_use = "the old process sees nothing any more"]
    pub fn kill(&self) -> Self {
        let mut world = self.lock_world();
        self.new_process(&mut world)
    }

    /// Plans trouble for the call with this number, counted from 1 over all calls.
    pub fn plan(&self, call: u64, trouble: Trouble) {
        self.lock_world().plan = Some((call, trouble));
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock_world().calls
    }

    /// Whether power was lost.
    pub fn is_down(&self) -> bool {
        let world = self.lock_world();
        world.is_down || world.process != self.process
    }

    /// The next write fails.
    pub fn fail_next_write(&self) {
        self.lock_world().fails_next = Some(Fails::Write);
    }

    /// The next sync of a file fails.
    pub fn fail_next_sync(&self) {
        self.lock_world().fails_next = Some(Fails::Sync);
    }

    /// Syncs do nothing from now on and say that they did: what a test must find out.
    pub fn ignore_sync(&self, ignores: bool) {
        self.lock_world().ignores_sync = ignores;
    }

    /// Octets that the file system says are left.
    pub fn set_free_bytes(&self, octets: u64) {
        self.lock_world().free_bytes = octets;
    }

    /// Inverts the bits of one octet, behind the back of everybody; false where there is none.
    pub fn damage(&self, file: &Path, offset: u64) -> bool {
        let world = &mut *self.lock_world();
        let node = world.names.get(file).and_then(|number| world.nodes.get_mut(number));
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match node.and_then(|node| node.octets.get_mut(offset)) {
            Some(octet) => {
                *octet = !*octet;
                true
            }
            None => false,
        }
    }

    fn new_process(&self, world: &mut World) -> Self {
        world.process += 1;
        world.is_down = false;
        world.plan = None;
        world.fails_next = None;
        world.locks.clear();
        Self { world: Arc::clone(&self.world), process: world.process }
    }

    fn lock_world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; gives what is planned for it.
    fn call(&self) -> io::Result<(MutexGuard<'_, World>, Planned)> {
        let mut world = self.lock_world();
        if world.is_down || world.process != self.process {
            return Err(io::Error::other("power is lost"));
        }
        world.calls += 1;
        let trouble =
            world.plan.and_then(|(call, trouble)| (call == world.calls).then_some(trouble));
        if trouble == Some(Trouble::Crash) {
            world.is_down = true;
        }
        // A call that fails may have done its work or not.
        let is_done = trouble.is_none() || world.calls.is_multiple_of(2);
        Ok((world, Planned { trouble, is_done }))
    }

    fn number(world: &World, file: &Path) -> io::Result<u64> {
        world.names.get(file).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn file(&self, number: u64) -> Arc<dyn IoFile> {
        Arc::new(FaultyFile { files: self.clone(), number })
    }
}

/// What is planned for a call.
struct Planned {
    trouble: Option<Trouble>,
    is_done: bool,
}

impl Planned {
    fn result(&self) -> io::Result<()> {
        match self.trouble {
            None => Ok(()),
            Some(Trouble::Crash) => Err(io::Error::other("power is lost")),
            Some(Trouble::Failure) => Err(io::Error::other("input/output error")),
            Some(Trouble::NoRoom) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Io for FaultyFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.call()?.1.result()
    }

    fn create(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        let (mut world, planned) = self.call()?;
        if world.names.contains_key(file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = world.nodes.last_key_value().map_or(0, |(number, _)| number + 1);
        if planned.is_done {
            world.nodes.insert(number, Node::default());
            world.names.insert(file.to_owned(), number);
        }
        planned.result()?;
        Ok(self.file(number))
    }

    fn open(&self, file: &Path) -> io::Result<Arc<dyn IoFile>> {
        let (world, planned) = self.call()?;
        planned.result()?;
        Ok(self.file(Self::number(&world, file)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (world, planned) = self.call()?;
        planned.result()?;
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str());
        Ok(names.map(str::to_owned).collect())
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        let (mut world, planned) = self.call()?;
        Self::number(&world, file)?;
        if planned.is_done {
            world.names.remove(file);
        }
        planned.result()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut world, planned) = self.call()?;
        planned.result()?;
        if world.ignores_sync {
            return Ok(());
        }
        let world = &mut *world;
        world.durable_names.retain(|path, _| path.parent() != Some(dir));
        let inside = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        world.durable_names.extend(inside.map(|(path, number)| (path.clone(), *number)));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let (world, planned) = self.call()?;
        planned.result()?;
        Ok(world.free_bytes)
    }

    fn lock(&self, file: &Path) -> io::Result<Lock> {
        let (mut world, planned) = self.call()?;
        planned.result()?;
        if !world.locks.insert(file.to_owned()) {
            return Ok(Lock::Taken(None));
        }
        Ok(Lock::Held(Box::new(FaultyLock { files: self.clone(), file: file.to_owned() })))
    }

    fn random(&self) -> u64 {
        let mut world = self.lock_world();
        world.drawn += 1;
        Draw::new(world.drawn).bits()
    }
}

struct FaultyLock {
    files: FaultyFiles,
    file: PathBuf,
}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut world = self.files.lock_world();
        if world.process == self.files.process {
            world.locks.remove(&self.file);
        }
    }
}

struct FaultyFile {
    files: FaultyFiles,
    number: u64,
}

impl FaultyFile {
    fn node(world: &mut World, number: u64) -> io::Result<&mut Node> {
        world.nodes.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl IoFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut world, planned) = self.files.call()?;
        planned.result()?;
        Ok(Self::node(&mut world, self.number)?.read(into, offset))
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let (mut world, planned) = self.files.call()?;
        let fails = world.fails_next.take_if(|next| *next == Fails::Write).is_some();
        if planned.is_done {
            let node = Self::node(&mut world, self.number)?;
            let mut at = usize::try_from(offset).map_err(io::Error::other)?;
            for part in parts.iter() {
                node.write(part, at);
                at += part.len();
            }
        }
        if fails { Err(io::Error::other("input/output error")) } else { planned.result() }
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut world, planned) = self.files.call()?;
        planned.result()?;
        if world.fails_next.take_if(|next| *next == Fails::Sync).is_some() {
            return Err(io::Error::other("input/output error"));
        }
        if world.ignores_sync {
            return Ok(());
        }
        let node = Self::node(&mut world, self.number)?;
        node.durable.clear();
        node.durable_len = node.len;
        Ok(())
    }

    fn allocate(&self, octets: u64) -> io::Result<()> {
        let (mut world, planned) = self.files.call()?;
        if planned.is_done {
            let node = Self::node(&mut world, self.number)?;
            node.len = node.len.max(octets);
            if node.octets.is_empty() {
                node.octets = vec![0; usize::try_from(octets).map_err(io::Error::other)?];
            }
        }
        planned.result()
    }

    fn octets(&self) -> io::Result<u64> {
        let (mut world, planned) = self.files.call()?;
        planned.result()?;
        Ok(Self::node(&mut world, self.number)?.len)
    }
}

impl Node {
    fn read(&self, into: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = into.len().min(left);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = self.octets.get(start..).unwrap_or_default();
        let there = there.get(..count).unwrap_or(there);
        let (filled, rest) = into.split_at_mut(there.len());
        filled.copy_from_slice(there);
        // What was never written reads as zeros.
        rest.get_mut(..count - there.len()).unwrap_or_default().fill(0);
        count
    }

    fn write(&mut self, part: &[u8], at: usize) {
        if part.is_empty() {
            return;
        }
        let end = at + part.len();
        let whole = end.div_ceil(SECTOR_OCTETS) * SECTOR_OCTETS;
        if self.octets.len() < whole {
            self.octets.resize(whole, 0);
        }
        for sector in at / SECTOR_OCTETS..whole / SECTOR_OCTETS {
            let octets = &self.octets;
            self.durable.entry(sector).or_insert_with(|| sector_of(octets, sector).to_vec());
        }
        if let Some(place) = self.octets.get_mut(at..end) {
            place.copy_from_slice(part);
        }
        self.len = self.len.max(end as u64);
    }

    fn crash(&mut self, draw: &mut Draw) {
        for (sector, old) in std::mem::take(&mut self.durable) {
            let start = sector * SECTOR_OCTETS;
            let Some(now) = self.octets.get_mut(start..start + old.len()) else { continue };
            let kept = match draw.below(3) {
                0 => old.len(),
                1 => 0,
                // Torn: the front is new, the rest is old.
                _ => usize::try_from(draw.below(old.len() as u64)).unwrap_or(0),
            };
            let lost = now.get_mut(kept..).unwrap_or_default();
            lost.copy_from_slice(old.get(kept..).unwrap_or_default());
        }
        if self.len != self.durable_len && draw.chance(50) {
            self.len = self.durable_len;
            let len = usize::try_from(self.len).unwrap_or(usize::MAX);
            self.octets.truncate(len.div_ceil(SECTOR_OCTETS) * SECTOR_OCTETS);
            self.octets.get_mut(len..).unwrap_or_default().fill(0);
        }
        self.durable_len = self.len;
    }
}

fn sector_of(octets: &[u8], sector: usize) -> &[u8] {
    let start = sector * SECTOR_OCTETS;
    octets.get(start..start + SECTOR_OCTETS).unwrap_or_default()
}

const SECTOR_OCTETS: usize = 512;
