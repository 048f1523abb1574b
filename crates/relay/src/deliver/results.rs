//! What the results of a transaction mean for the attempt that it belongs to. Pure.

use merpati_flow::{Finding, Handover, attempt};
use merpati_mail::{
    NotConvertible,
    outcome::{Fact, Finding as Found},
};
use merpati_smtp::client::{RecipientResult, TransactionResult};

pub(super) fn finding(result: RecipientResult, handover: Handover) -> Finding {
    match result {
        RecipientResult::Delivered(reply) => Finding::Delivered(reply, handover),
        RecipientResult::NotDelivered(found) => Finding::NotDelivered(found),
        // What was only verified was not handed over.
        RecipientResult::TryAgainHere | RecipientResult::Verified => Finding::TryAgain,
    }
}

fn not_delivered(result: &RecipientResult) -> Option<&Found> {
    match result {
        RecipientResult::NotDelivered(found) => Some(found),
        RecipientResult::Delivered(_)
        | RecipientResult::TryAgainHere
        | RecipientResult::Verified => None,
    }
}

/// Whether a recipient did not get what was to be handed over.
pub(super) fn is_trouble(result: &RecipientResult) -> bool {
    not_delivered(result).is_some()
}

pub(super) fn is_idle_end(results: &TransactionResult) -> bool {
    attempt::is_idle_end(results.recipients.iter().map(|(_, result)| not_delivered(result)))
}

pub(super) fn wants_seven_bit(results: &TransactionResult) -> bool {
    let mut all = results.recipients.iter().filter_map(|(_, result)| not_delivered(result));
    all.any(attempt::wants_seven_bit)
}

/// Whether a group of commands was sent that the host may not be able to take.
pub(super) fn is_pipelining_trouble(results: &TransactionResult) -> bool {
    let mut all = results.recipients.iter().filter_map(|(_, result)| not_delivered(result));
    results.is_pipelined && all.any(attempt::is_pipelining_trouble)
}

/// In place of the lack of 8BITMIME: why the message cannot do without.
pub(super) fn tell_why(results: &mut TransactionResult, why: NotConvertible) {
    for (_, result) in &mut results.recipients {
        match result {
            RecipientResult::NotDelivered(found) if attempt::wants_seven_bit(found) => {
                found.fact = Fact::NotConvertible(why);
            }
            RecipientResult::Delivered(_)
            | RecipientResult::NotDelivered(_)
            | RecipientResult::TryAgainHere
            | RecipientResult::Verified => {}
        }
    }
}
