//! Decides whether the generated pages of `docs/reference` are what the code would write today.
//!
//! Pure.

use crate::finding::Finding;
use crate::reference::Page;
use crate::tree::Tree;

/// A finding for each page that is missing or differs.
pub fn check(tree: &Tree, pages: &[Page]) -> Vec<Finding> {
    pages.iter().filter_map(|page| differs(page.path, &page.text, tree.text(page.path))).collect()
}

/// The finding, if what is `committed` is not what was `generated`, at the first line that differs.
fn differs(path: &str, generated: &str, committed: Option<&str>) -> Option<Finding> {
    let Some(committed) = committed else {
        return Some(Finding::new(path, 1, "the page is missing", REMEDY));
    };
    if committed == generated {
        return None;
    }
    let same = committed.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    Some(Finding::new(path, same + 1, "the page is not what the code says", REMEDY))
}

const REMEDY: &str = "run `make docs` and commit the page";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_equals_what_the_code_generates() {
        for (committed, want) in [
            (Some("# A\none\ntwo\n"), None),
            (Some("# A\none\n2\n"), Some(3)),
            (Some("# A\none\n"), Some(3)),
            (Some("# A\none\ntwo\n\n"), Some(4)),
            (None, Some(1)),
        ] {
            let finding = differs("docs/reference/a.md", "# A\none\ntwo\n", committed);
            assert_eq!(finding.map(|f| f.line), want, "{committed:?}");
        }
    }
}
