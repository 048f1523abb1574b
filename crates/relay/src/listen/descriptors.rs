//! When there are too few descriptors left for one more client.
//!
//! Invariant: some are kept back for the journal, for large contents and for mail that leaves: they
//! must go on where clients have taken all others. The kernel gives the lowest number that is free,
//! so the number of a connection says how many are in use. Not pure: the limit of the process.

use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors that clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// The number from which on they are kept back.
    kept_from: u64,
}

impl Descriptors {
    /// Raises the limit of the process as far as it may, and looks what it is then.
    pub(crate) fn of_process() -> Self {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // No limit is as much as the kernel has.
        let raised = Rlimit { current: maximum, maximum };
        let is_raised = current != maximum && setrlimit(Resource::Nofile, raised).is_ok();
        Self::of(if is_raised { maximum } else { current }.unwrap_or(u64::MAX))
    }

    const fn of(limit: u64) -> Self {
        let share = limit / KEPT_SHARE;
        let kept = if share > KEPT_MAX { KEPT_MAX } else { share };
        Self { kept_from: limit - kept }
    }

    /// Whether a client may have this one.
    pub(crate) fn permit(self, descriptor: &impl AsRawFd) -> bool {
        self.permit_number(descriptor.as_raw_fd())
    }

    fn permit_number(self, number: RawFd) -> bool {
        u64::try_from(number).is_ok_and(|number| number < self.kept_from)
    }
}

/// This part of all is kept back,
const KEPT_SHARE: u64 = 4;
/// but no more than these: a connection to each of 1,000 hosts, and segments.
const KEPT_MAX: u64 = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_kept_back_but_never_too_many() {
        for (limit, last) in [(64, 47), (1_024, 767), (100_000, 97_951)] {
            let descriptors = Descriptors::of(limit);
            assert!(descriptors.permit_number(last), "{limit}");
            assert!(!descriptors.permit_number(last + 1), "{limit}");
        }
        assert!(Descriptors::of(u64::MAX).permit_number(RawFd::MAX));
    }
}
