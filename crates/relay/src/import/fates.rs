//! What becomes of every parameter at which no other module looked.
//!
//! Invariant: afterwards each one that is set has its fate. Pure.

use std::collections::BTreeMap;

use super::{
    Postfix,
    catalog::{self, Otherwise},
    main_cf::Assignments,
    report::{Fate, Report, Weight},
    scope::Scope,
    text::Place,
};

/// A parameter with where it is set and what became of it.
pub(super) type Fates = BTreeMap<(Place, String), Fate>;

/// Gives a fate to all that have none, and tells all of them.
pub(super) fn settle(postfix: &Postfix, transports: &[String], report: &mut Report) -> Fates {
    let mut fates = Fates::new();
    let main = postfix.scope();
    of_all(postfix, &main, &postfix.main.set, report, &mut fates);
    for service in &postfix.master.services {
        let scope = postfix.scope_of(service);
        let is_used =
            service.kind == "inet" || service.kind == "pass" || transports.contains(&service.name);
        for name in service.own.keys().filter(|_| !is_used) {
            report.nothing(&scope, name, "nothing here uses this service");
        }
        of_all(postfix, &scope, &service.own, report, &mut fates);
    }
    for (name, before, after) in &postfix.main.overruled {
        let text = format!("it is set again at {after}, which counts");
        report.line(Weight::Plain, before, name, &text);
    }
    for (place, text) in postfix.main.unread.iter().chain(&postfix.master.unread) {
        let text = format!("this line cannot be read: {text}");
        report.line(Weight::Loud, place, "a line", &text);
    }
    fates
}

fn of_all(
    postfix: &Postfix,
    scope: &Scope<'_>,
    all: &Assignments,
    report: &mut Report,
    fates: &mut Fates,
) {
    for (name, set) in all {
        if report.fate(&set.place, name).is_none() {
            otherwise(postfix, scope, name, report);
        }
        // Nobody's parameter is left without.
        let fate = report.fate(&set.place, name).unwrap_or(Fate::Left);
        fates.insert((set.place.clone(), name.clone()), fate);
    }
}

fn otherwise(postfix: &Postfix, scope: &Scope<'_>, name: &str, report: &mut Report) {
    let value = scope.value(name);
    let is_default = catalog::knows(name) && value == scope.default_of(name);
    if is_default {
        return report.nothing(scope, name, "it is Postfix's default");
    }
    match catalog::otherwise(name) {
        Some(_) if value.is_empty() => report.nothing(scope, name, "it is empty"),
        Some(Otherwise::Here) => {
            let text = "nothing that is carried over uses it";
            report.left(scope, name, Weight::Plain, text);
        }
        Some(Otherwise::Left(text)) => report.left(scope, name, Weight::Plain, text),
        Some(Otherwise::Loud(text)) => report.left(scope, name, Weight::Loud, text),
        Some(Otherwise::Nothing(why)) => report.nothing(scope, name, why),
        None if is_named(postfix, name) => {
            report.nothing(scope, name, "it stands in the values of others");
        }
        None => {
            let text = "this parameter is not known here: look it up, and see whether mail depends \
                        on it";
            report.left(scope, name, Weight::Plain, text);
        }
    }
}

/// Whether another parameter names this one as `$name`, or as a class.
fn is_named(postfix: &Postfix, name: &str) -> bool {
    let own = postfix.master.services.iter().flat_map(|service| service.own.values());
    let mut all = postfix.main.set.values().chain(own);
    let by_dollar = [format!("${name}"), format!("${{{name}"), format!("$({name}")];
    let classes = postfix.scope().words("smtpd_restriction_classes");
    classes.iter().any(|class| class == name)
        || all.any(|set| by_dollar.iter().any(|form| set.raw.contains(form)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    #[test]
    fn what_nobody_looked_at_has_a_fate_as_well() {
        let main = "\
bounce_queue_lifetime = 1d
always_bcc = archive@a.example
biff = no
mua_restrictions = reject
own = $mua_restrictions
no_such_parameter = 1
transport_maps =
header_checks =
queue_run_delay = 300s
relayhost = [a.example]
";
        let master = "slow unix - - n - - smtp -o smtp_helo_name=a.example\n";
        let postfix = postfix(main, master, &[]);
        let mut report = Report::default();
        let fates = settle(&postfix, &[], &mut report);
        let fate =
            |name: &str| fates.iter().find(|((_, one), _)| one == name).map(|(_, fate)| *fate);
        for (name, want) in [
            ("bounce_queue_lifetime", Fate::Left),
            ("always_bcc", Fate::Left),
            ("biff", Fate::Nothing),
            ("mua_restrictions", Fate::Nothing),
            ("own", Fate::Left),
            ("no_such_parameter", Fate::Left),
            ("transport_maps", Fate::Nothing),
            ("header_checks", Fate::Nothing),
            ("queue_run_delay", Fate::Nothing),
            ("relayhost", Fate::Left),
            ("smtp_helo_name", Fate::Nothing),
        ] {
            assert_eq!(fate(name), Some(want), "{name}");
        }
    }
}
