//! What becomes of aliases: nothing is rewritten here, so they are told and left.
//!
//! Pure.

use super::{
    Postfix,
    report::{Report, Weight},
    tables::Table,
};

/// Tells of the tables that lead addresses to others.
pub(super) fn tell(postfix: &Postfix, report: &mut Report) {
    let scope = postfix.scope();
    for name in ["alias_maps", "virtual_alias_maps"] {
        if !scope.has(name) {
            continue;
        }
        let (rows, unread) = Table::rows_of(&scope.words(name), &postfix.files);
        let examples: Vec<&str> =
            rows.iter().take(3).map(|row| row.key.trim_end_matches(':')).collect();
        let count = match (rows.len(), unread.len()) {
            (0, 0) => {
                report.nothing(&scope, name, "its tables are empty");
                continue;
            }
            (0, _) => unread.join("; "),
            (count, _) => format!("{count} of them, such as {}", examples.join(", ")),
        };
        let text = format!(
            "aliases are not carried over ({count}): addresses are not led to others; let the next \
             hop do it"
        );
        report.left(&scope, name, Weight::Loud, &text);
    }
    report.nothing(&scope, "alias_database", "it says what newaliases makes, not what is used");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::postfix;

    #[test]
    fn aliases_are_counted_and_told() {
        let main =
            "virtual_alias_maps = hash:/v\nalias_maps = hash:/gone\nalias_database = hash:/a\n";
        let postfix = postfix(main, "", &[("/v", "ani@a.example budi\nciti@a.example dewi\n")]);
        let mut report = Report::default();
        tell(&postfix, &mut report);
        let texts: Vec<String> = report.into_lines().into_iter().map(|line| line.text).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("2 of them, such as ani@a.example, citi@a.example"), "{texts:?}");
        assert!(texts[1].contains("/gone was not read"), "{texts:?}");
    }
}
