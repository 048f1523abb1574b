//! Known ways to be wrong, each of which the checkers must notice.

/// A fault that is put into the shell of the simulated relays on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The client hears 250 when the message is written, before it is durable.
    AckBeforeSync,
    /// A lost reply to the end of data counts as a delivery.
    AmbiguousIsDelivered,
    /// What is written anew leaves out a delivery.
    CarryForgets,
    /// What is written anew leaves out that a delay was told.
    CarryForgetsDelay,
    /// Outcomes are never made durable by themselves.
    LazyForEver,
    /// The end of a message is not written.
    LostRetired,
    /// Everybody may send anywhere.
    OpenRelay,
    /// What is taken before the spool is read does not join the queue.
    RecoveryForgets,
    /// After a restart everything is due at once.
    ReplayDecides,
    /// The report on a failure is written later than the failure.
    ReportApart,
    /// Every next hop is believed to report success itself.
    SuccessUntold,
    /// A reply 4yz ends a delivery for ever.
    TransientIsFinal,
    /// Hosts of equal preference are always tried in the same order.
    UnshuffledMx,
    /// A leading dot is lost on the way.
    Unstuffed,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AckBeforeSync,
        Self::AmbiguousIsDelivered,
        Self::CarryForgets,
        Self::CarryForgetsDelay,
        Self::LazyForEver,
        Self::LostRetired,
        Self::OpenRelay,
        Self::RecoveryForgets,
        Self::ReplayDecides,
        Self::ReportApart,
        Self::SuccessUntold,
        Self::TransientIsFinal,
        Self::UnshuffledMx,
        Self::Unstuffed,
    ];
}
