//! Odd branches that runs must reach, or they prove nothing about them.

macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something out of the ordinary that happened in a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $($(#[$doc])* $name,)* }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

marks! {
    /// A host in trouble got nothing for a while.
    BackedOff,
    /// A delivery was given up by an operator.
    Cancelled,
    /// A living message was written anew, and its old segment freed.
    Carried,
    /// A relay crashed.
    Crash,
    /// A relay crashed while it had yet to read its spool, and had taken mail.
    CrashInRecovery,
    /// A relay crashed while a sync was under way.
    CrashInSync,
    /// A relay crashed with a transaction open.
    CrashInTransaction,
    /// A relay crashed again within a minute of its start.
    CrashTwice,
    /// A connection of ours was cut after the greeting and before the content.
    CutBeforeContent,
    /// A connection of ours was cut in the content.
    CutInContent,
    /// A reply to the end of data was lost.
    CutAfterEndOfData,
    /// An originator was told that mail is delayed.
    DelayReport,
    /// DNS could not say where to.
    DnsUnknown,
    /// A domain does not exist.
    DomainUnknown,
    /// Mail reached a recipient twice, with an excuse.
    Duplicate,
    /// A line that begins with a dot went through.
    DotLine,
    /// 8-bit content went through.
    EightBit,
    /// A delivery waited too long.
    Expired,
    /// A recipient was greylisted and then delivered.
    Greylisted,
    /// A delivery was held by an operator.
    Held,
    /// A peer without EHLO was greeted with HELO.
    HeloOnly,
    /// A lane had all its connections in use.
    LaneParked,
    /// An outcome was lost in a crash, and the delivery came back.
    LazyLost,
    /// A peer without pipelining was served in lock-step.
    LockStep,
    /// Mail was taken by a relay that had yet to read its spool.
    MailInRecovery,
    /// A next host of the same domain was tried.
    NextHost,
    /// No rule covered a recipient.
    NoRoute,
    /// A domain has a null MX.
    NullMx,
    /// A report reached its originator.
    Report,
    /// A report could not be delivered, and nothing answered that.
    ReportUndeliverable,
    /// One recipient of a transaction was taken and another refused.
    PartlyRefused,
    /// A peer broke the protocol.
    ProtocolBroken,
    /// A delivery was released by an operator.
    Released,
    /// A delivery was led another way by an operator.
    Rerouted,
    /// A stranger was refused as a relay client.
    RelayDenied,
    /// A journal took another segment.
    RollOver,
    /// An originator was told of a success, because the next hop does not.
    SuccessReport,
    /// A submitter did not go on, and heard 421.
    SubmitterTimedOut,
    /// A relay drained, and told its sessions so.
    Shutdown,
    /// A message was too large for us.
    TooLarge,
    /// A transaction took no more recipients, and another one did.
    TooManyRecipients,
    /// A peer asked to slow down.
    Throttled,
    /// Mail went through two relays.
    TwoRelays,
    /// A peer did not answer in time.
    PeerTimedOut,
    /// A spool was full, and mail was refused for it.
    SpoolFull,
    /// A write or sync failed, and the relay was started again.
    StorageFailed,
}
