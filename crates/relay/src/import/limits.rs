//! Which numbers are carried over as they are: sizes, counts and times.
//!
//! Pure.

use std::{num::NonZeroU32, time::Duration};

use super::{
    document::Table,
    report::{Report, Weight},
    scope::Scope,
};
use crate::config::{Bytes, setting::Setting};

/// A parameter, and the option that it becomes.
struct Number {
    parameter: &'static str,
    option: &'static str,
    form: Form,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A count from 1; 0 is this one, or no limit here.
    Count(Option<u32>),
    /// A size; 0 is no limit.
    Size,
    /// A time with this unit where it has none; 0 is this one.
    Time(char, &'static str),
}

/// Writes the limits of a listener.
pub(super) fn of_listener(table: &mut Table, scope: &Scope<'_>, report: &mut Report) {
    all(table, LISTENER, scope, report);
    let name = "disable_vrfy_command";
    if scope.is_yes(name) {
        let from = report.carried(scope, name);
        table.set("vrfy", &"off".to_owned(), &from);
    } else {
        report.nothing(scope, name, "VRFY is answered with 252");
    }
    report.nothing(scope, "smtpd_banner", "the greeting names Merpati; see listener.greeting");
}

/// `[delivery]`.
pub(super) fn delivery(scope: &Scope<'_>, report: &mut Report) -> Table {
    let mut table = Table::new("[delivery]");
    all(&mut table, DELIVERY, scope, report);
    table
}

/// `[retry]`.
pub(super) fn retry(scope: &Scope<'_>, report: &mut Report) -> Table {
    let mut table = Table::new("[retry]");
    let whole = time(&scope.value("maximal_queue_lifetime"), 'd').unwrap_or(FIVE_DAYS);
    for number in RETRY {
        let is_wait = number.parameter.ends_with("_backoff_time");
        let wait = time(&scope.value(number.parameter), 's').filter(|_| is_wait);
        if scope.has(number.parameter) && wait > Some(whole) {
            let text = "it is longer than maximal_queue_lifetime, and left as it is here";
            report.left(scope, number.parameter, Weight::Plain, text);
        } else {
            one(&mut table, number, scope, report);
        }
    }
    table
}

/// `relay.hops_max`.
pub(super) fn hops(table: &mut Table, scope: &Scope<'_>, report: &mut Report) {
    all(table, RELAY, scope, report);
}

fn all(table: &mut Table, numbers: &[Number], scope: &Scope<'_>, report: &mut Report) {
    for number in numbers {
        one(table, number, scope, report);
    }
}

fn one(table: &mut Table, number: &Number, scope: &Scope<'_>, report: &mut Report) {
    let Number { parameter, option, form } = number;
    if scope.assignment(parameter).is_none() {
        return;
    }
    let value = scope.value(parameter);
    let wrong = |report: &mut Report| {
        report.left(scope, parameter, Weight::Plain, &format!("`{value}` cannot be read"));
    };
    match form {
        Form::Count(zero) => match value.parse::<u32>() {
            Ok(0) => match zero.and_then(NonZeroU32::new) {
                Some(most) => {
                    let from = report.carried(scope, parameter);
                    table.set(option, &most, &format!("{from}: no limit"));
                }
                None => report.nothing(scope, parameter, "there is no limit by default"),
            },
            Ok(count) => match NonZeroU32::new(count) {
                Some(count) => {
                    let from = report.carried(scope, parameter);
                    table.set(option, &count, &from);
                }
                None => wrong(report),
            },
            Err(_) => wrong(report),
        },
        Form::Size => match value.parse::<u64>() {
            Ok(0) => {
                let from = report.carried(scope, parameter);
                table.set(option, &Bytes(SIZE_MAX), &format!("{from}: no limit"));
            }
            Ok(size) => {
                let from = report.carried(scope, parameter);
                table.set(option, &Bytes(size), &from);
            }
            Err(_) => wrong(report),
        },
        Form::Time(unit, zero) => match time(&value, *unit) {
            Some(Duration::ZERO) => {
                let from = report.carried(scope, parameter);
                let zero = Option::<Duration>::parse(zero).ok().flatten();
                table.set(option, &zero, &from);
            }
            Some(time) => {
                let from = report.carried(scope, parameter);
                table.set(option, &time, &from);
            }
            None => wrong(report),
        },
    }
}

/// A time as Postfix writes it: a number, and a unit of `s m h d w`.
fn time(text: &str, unit: char) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?.chars().next().unwrap_or(unit);
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

const LISTENER: &[Number] = &[
    Number { parameter: "message_size_limit", option: "message_size_max", form: Form::Size },
    Number {
        parameter: "smtpd_client_connection_count_limit",
        option: "connections_per_address_max",
        // As many as the listener may have in all.
        form: Form::Count(Some(20_000)),
    },
    Number {
        parameter: "smtpd_client_connection_rate_limit",
        option: "connections_per_minute_max",
        form: Form::Count(None),
    },
    Number {
        parameter: "smtpd_client_message_rate_limit",
        option: "messages_per_minute_max",
        form: Form::Count(None),
    },
    Number {
        parameter: "smtpd_client_recipient_rate_limit",
        option: "recipients_per_minute_max",
        form: Form::Count(None),
    },
    Number {
        parameter: "smtpd_recipient_limit",
        option: "recipients_max",
        form: Form::Count(None),
    },
    Number {
        parameter: "smtpd_hard_error_limit",
        option: "bad_commands_max",
        form: Form::Count(None),
    },
    Number { parameter: "smtpd_timeout", option: "command_wait", form: Form::Time('s', "5 min") },
];

const DELIVERY: &[Number] = &[
    Number {
        parameter: "default_destination_concurrency_limit",
        option: "connections_per_host_max",
        form: Form::Count(Some(1_000)),
    },
    Number {
        parameter: "default_destination_recipient_limit",
        option: "recipients_max",
        form: Form::Count(Some(10_000)),
    },
    Number {
        parameter: "smtp_connect_timeout",
        option: "connect_wait",
        form: Form::Time('s', "30 s"),
    },
    Number {
        parameter: "smtp_mail_timeout",
        option: "command_wait",
        form: Form::Time('s', "5 min"),
    },
    Number {
        parameter: "smtp_data_init_timeout",
        option: "data_wait",
        form: Form::Time('s', "2 min"),
    },
    Number {
        parameter: "smtp_data_xfer_timeout",
        option: "data_block_wait",
        form: Form::Time('s', "3 min"),
    },
    Number {
        parameter: "smtp_data_done_timeout",
        option: "data_end_wait",
        form: Form::Time('s', "10 min"),
    },
];

const RETRY: &[Number] = &[
    Number {
        parameter: "minimal_backoff_time",
        option: "first_wait",
        form: Form::Time('s', "1 s"),
    },
    Number {
        parameter: "maximal_backoff_time",
        option: "longest_wait",
        form: Form::Time('s', "1 s"),
    },
    Number {
        // 0 is a single attempt: the next one would come too late.
        parameter: "maximal_queue_lifetime",
        option: "give_up_after",
        form: Form::Time('d', "1 s"),
    },
    Number {
        parameter: "delay_warning_time",
        option: "delay_report_after",
        form: Form::Time('h', "off"),
    },
];

const RELAY: &[Number] =
    &[Number { parameter: "hopcount_limit", option: "hops_max", form: Form::Count(None) }];

/// Where Postfix has no limit: as much as one disk hardly holds.
const SIZE_MAX: u64 = 1 << 40;
const FIVE_DAYS: Duration = Duration::from_hours(120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{document::text, main_cf::MainCf};

    fn lines(main: &str, write: impl Fn(&Scope<'_>, &mut Report) -> Table) -> (String, usize) {
        let main = MainCf::parse("main.cf", main);
        let mut report = Report::default();
        let text = text(&[write(&Scope::new(&main, None), &mut report)]);
        let lines = text.lines().filter(|line| !line.starts_with(['#', '[']));
        (lines.collect::<Vec<_>>().join("; "), report.into_lines().len())
    }

    #[test]
    fn numbers_keep_their_meaning() {
        let listener = |scope: &Scope<'_>, report: &mut Report| {
            let mut table = Table::new("[[listener]]");
            of_listener(&mut table, scope, report);
            table
        };
        for (main, want, left) in [
            ("", "", 0),
            ("message_size_limit = 26214400", "message_size_max = \"25 MiB\"", 0),
            ("message_size_limit = 0", "message_size_max = \"1 TiB\"", 0),
            ("smtpd_client_connection_count_limit = 0", "connections_per_address_max = 20000", 0),
            ("smtpd_client_message_rate_limit = 0", "", 0),
            ("smtpd_client_message_rate_limit = 30", "messages_per_minute_max = 30", 0),
            ("smtpd_timeout = ${stress?{10}:{300}}s", "command_wait = \"5 min\"", 0),
            ("disable_vrfy_command = yes", "vrfy = \"off\"", 0),
            ("smtpd_recipient_limit = many", "", 1),
        ] {
            assert_eq!(lines(main, listener), (want.to_owned(), left), "{main}");
        }
    }

    #[test]
    fn times_have_the_unit_of_their_parameter() {
        for (main, want) in [
            ("maximal_queue_lifetime = 3", "give_up_after = \"3 d\""),
            ("maximal_queue_lifetime = 4h", "give_up_after = \"4 h\""),
            ("maximal_queue_lifetime = 0", "give_up_after = \"1 s\""),
            ("maximal_queue_lifetime = 1w", "give_up_after = \"7 d\""),
            ("delay_warning_time = 4", "delay_report_after = \"4 h\""),
            ("delay_warning_time = 0h", "delay_report_after = \"off\""),
            ("minimal_backoff_time = 60", "first_wait = \"1 min\""),
            ("maximal_backoff_time = 30m", "longest_wait = \"30 min\""),
        ] {
            assert_eq!(lines(main, retry), (want.to_owned(), 0), "{main}");
        }
        let main = "maximal_queue_lifetime = 1h\nmaximal_backoff_time = 2h\n";
        assert_eq!(lines(main, retry), ("give_up_after = \"1 h\"".to_owned(), 1));
    }

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, want) in [
            ("5", Some(5)),
            ("5s", Some(5)),
            ("5m", Some(300)),
            ("x", None),
            ("5y", None),
            ("", None),
        ] {
            assert_eq!(time(text, 's').map(|time| time.as_secs()), want, "{text}");
        }
    }
}
