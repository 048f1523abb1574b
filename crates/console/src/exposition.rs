//! The two ways in which metrics are written: `OpenMetrics`, and the older text format of
//! Prometheus for who does not ask for it.
//!
//! Pure.

use std::fmt::Write as _;

/// What a scraper that understands `OpenMetrics` names in its Accept field.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text";

/// The same metrics in the text format 0.0.4: there a counter is described by the name of its
/// samples, with `_total`, and there is no end mark.
pub(crate) fn as_text_format(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
            continue;
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
        else {
            if !line.starts_with("# ") {
                text.push_str(line);
                text.push('\n');
            }
            continue;
        };
        let end = if kind == "counter" { "_total" } else { "" };
        if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "# HELP {name}{end} {words}");
        }
        let _ = writeln!(text, "# TYPE {name}{end} {kind}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_described_by_the_name_of_its_samples() {
        let open = "# HELP a Of a.\n# TYPE a counter\na_total{x=\"# EOF\"} 1\n# HELP b Of b.\n\
                    # TYPE b gauge\n# UNIT b seconds\nb 2\n# EOF\n";
        let want = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n\
                    # HELP b Of b.\n# TYPE b gauge\nb 2\n";
        assert_eq!(as_text_format(open), want);
    }
}
