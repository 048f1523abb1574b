//! Segments read and decoded ahead of the one that is being taken in, on threads of their own.
//!
//! Invariant: the steps of a segment come in its order, whoever reads them; at most
//! [`SEGMENTS`] segments are read at a time, each at most [`BATCHES`] batches ahead, so memory
//! is bounded. Where nothing may go on in the background, it is read where it is needed.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::Scope,
    vec,
};

use crate::{
    SpoolError,
    scan::{Scan, Step},
};

/// Where the steps of a segment come from.
pub(crate) enum Steps<'a> {
    /// From a thread that reads ahead.
    Ahead(Receiver<Batch>, vec::IntoIter<Result<Step, SpoolError>>),
    /// From the segment itself.
    Here(Box<Scan<'a>>),
}

type Batch = Vec<Result<Step, SpoolError>>;

impl<'a> Steps<'a> {
    /// Begins to read a segment on a thread of its own; where there can be none, here.
    pub(crate) fn ahead<'scope>(scope: &'scope Scope<'scope, '_>, scan: Scan<'a>) -> Self
    where
        'a: 'scope,
    {
        let (sender, batches) = sync_channel(BATCHES);
        scope.spawn(move || read(scan, &sender));
        Self::Ahead(batches, Vec::new().into_iter())
    }

    /// The next step; after [`Step::End`] and an error there is none.
    pub(crate) fn step(&mut self) -> Result<Step, SpoolError> {
        match self {
            Self::Here(scan) => scan.step(),
            Self::Ahead(batches, steps) => {
                if steps.len() == 0 {
                    *steps = batches.recv().unwrap_or_default().into_iter();
                }
                let gone = || std::io::Error::other("the thread that reads ahead is gone");
                steps.next().unwrap_or_else(|| Err(SpoolError::io("read a segment")(gone())))
            }
        }
    }
}

fn read(mut scan: Scan<'_>, batches: &SyncSender<Batch>) {
    let mut is_open = true;
    while is_open {
        let mut batch = Vec::with_capacity(BATCH_STEPS);
        while is_open && batch.len() < BATCH_STEPS {
            let step = scan.step();
            is_open = matches!(step, Ok(Step::Damage { .. } | Step::Frame(..)));
            batch.push(step);
        }
        if batches.send(batch).is_err() {
            return;
        }
    }
}

/// How many segments are read at a time, the one that is being taken in included.
pub(crate) const SEGMENTS: usize = 2;
const BATCHES: usize = 16;
const BATCH_STEPS: usize = 128;
