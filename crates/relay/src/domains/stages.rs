//! The stages of a key: published, seen, signing, retired, gone.
//!
//! Invariant: a key signs only after its record was seen, and a record is withdrawn only when no
//! message that it proves can be under way any more. Pure.

use std::time::Duration;

use merpati_mail::Time;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its record is to be published; it does not sign yet.
    New,
    /// It does not sign any more; its record stays, for mail that is still under way.
    Retired,
    /// It signs.
    Signing,
}

impl Stage {
    /// As it stands in files and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Retired => "retired",
            Self::Signing => "signing",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::New, Self::Retired, Self::Signing].into_iter().find(|stage| stage.as_str() == text)
    }
}

/// What is known of a key when its stage is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Its stage, and since when.
    pub stage: Stage,
    /// Since when it has that stage.
    pub since: Time,
    /// Whether every resolver that was asked shows its record.
    pub is_seen: bool,
    /// Whether another key of its kind takes its place now: one that is newer and seen.
    pub has_successor: bool,
}

/// What is to be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is forgotten: its record may be withdrawn.
    Forget,
    /// It gets this stage.
    Move(Stage),
    /// Nothing.
    Stay,
}

/// How long a key is kept after it has signed for the last time: a message may wait for five days
/// here, and for as long elsewhere.
pub const RETIRED_FOR: Duration = Duration::from_hours(14 * 24);

/// What is to be done with a key by what is known of it.
pub fn step(look: &Look, now: Time) -> Step {
    match look.stage {
        Stage::New if look.is_seen => Step::Move(Stage::Signing),
        Stage::Signing if look.has_successor => Step::Move(Stage::Retired),
        Stage::Retired if now.since(look.since) >= RETIRED_FOR => Step::Forget,
        Stage::New | Stage::Retired | Stage::Signing => Step::Stay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_on_only_when_nothing_can_be_lost_by_it() {
        let day = |days: u64| Time::from_secs(1_790_000_000 + days * 86_400);
        for (stage, days, is_seen, has_successor, want) in [
            (Stage::New, 100, false, false, Step::Stay),
            (Stage::New, 0, true, false, Step::Move(Stage::Signing)),
            (Stage::New, 0, false, true, Step::Stay),
            (Stage::Signing, 0, true, true, Step::Move(Stage::Retired)),
            (Stage::Signing, 900, true, false, Step::Stay),
            // A record that has vanished is a matter for the operator, not for another stage.
            (Stage::Signing, 0, false, false, Step::Stay),
            (Stage::Retired, 13, true, true, Step::Stay),
            (Stage::Retired, 14, true, true, Step::Forget),
        ] {
            let look = Look { stage, since: day(0), is_seen, has_successor };
            assert_eq!(step(&look, day(days)), want, "{look:?} after {days} days");
        }
    }
}
