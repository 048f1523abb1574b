//! Decides which pages of `docs/reference` are written by a program, and what stands in them.
//!
//! Invariant: a page is a function of the code alone, so that two runs write the same octets.
//! `cargo run -p merpati-xtask -- docs` writes the pages; tidy compares them with the committed
//! ones. Pure: writing is for [`crate::house`].

/// A page as the code of today would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it is committed, relative to the root.
    pub path: &'static str,
    /// Its whole text.
    pub text: String,
}

/// All generated pages.
///
/// The one place that asks our other crates for their reference.
pub fn pages() -> Vec<Page> {
    vec![
        Page { path: "docs/reference/advice.md", text: merpati_console::advice::reference() },
        Page {
            path: "docs/reference/configuration.md",
            text: merpati_relay::config::reference::reference(),
        },
        Page {
            path: "docs/reference/configuration.schema.json",
            text: merpati_relay::config::schema::schema(),
        },
        Page { path: "docs/reference/problems.md", text: merpati_console::problem::reference() },
    ]
}
