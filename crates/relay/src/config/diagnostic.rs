//! How a mistake in the configuration is shown: file, line, column, the line itself and a caret.
//!
//! Invariant: what may be a password is never shown, wherever it stands. Pure.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::source::{Sources, Span};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, without a full stop.
    pub why: String,
    /// Where.
    pub at: Span,
    /// A second place that matters, and what is there; `None` where one place is enough.
    pub beside: Option<(Span, String)>,
    /// What to write instead; `None` where the reason says it all.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake without help.
    pub fn new(why: impl Into<String>, at: Span) -> Self {
        Self { why: why.into(), at, beside: None, help: None }
    }

    /// The same with help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a second place.
    #[must_use]
    pub fn beside(mut self, at: Span, label: impl Into<String>) -> Self {
        self.beside = Some((at, label.into()));
        self
    }
}

/// All mistakes of a configuration, in the order in which it was read.
#[derive(Clone, Debug)]
pub struct Errors {
    sources: Sources,
    diagnostics: Vec<Diagnostic>,
}

impl Errors {
    pub(super) fn new(sources: &Sources, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| {
            let Span { source, range } = &diagnostic.at;
            (*source, range.start)
        });
        Self { sources: sources.without_secrets(), diagnostics }
    }

    /// A mistake that is nowhere in a text.
    pub(super) fn of_none(why: impl Into<String>, help: impl Into<String>) -> Self {
        let diagnostic = Diagnostic::new(why, Span::nowhere()).help(help);
        Self { sources: Sources::default(), diagnostics: vec![diagnostic] }
    }

    /// The first as it is shown, without a count: for what is no mistake of the text alone.
    pub fn first(&self) -> String {
        let first = self.diagnostics.first();
        first.map_or_else(String::new, |diagnostic| self.show(diagnostic, Level::ERROR))
    }

    /// All of them as they are shown where the relay can run all the same.
    pub fn as_warnings(&self) -> String {
        let all = self.diagnostics.iter();
        let all: Vec<String> =
            all.map(|diagnostic| self.show(diagnostic, Level::WARNING)).collect();
        all.join("\n\n")
    }

    /// These and others, whose texts begin with the texts of these.
    pub(super) fn and(mut self, mut others: Self) -> Self {
        self.diagnostics.append(&mut others.diagnostics);
        Self { sources: others.sources, diagnostics: self.diagnostics }
    }

    /// How many; at least one.
    pub fn count(&self) -> usize {
        self.diagnostics.len()
    }

    fn show(&self, diagnostic: &Diagnostic, level: Level<'static>) -> String {
        let title = level.primary_title(diagnostic.why.as_str());
        let at = &diagnostic.at;
        let Some(source) = self.sources.of(at) else {
            let mut group = title.elements(std::iter::empty::<Snippet<'_, Annotation<'_>>>());
            if let Some(help) = &diagnostic.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            return Renderer::plain().render(&[group]);
        };
        let primary = AnnotationKind::Primary.span(at.within(&source.text));
        let mut snippet =
            Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(primary);
        let mut other = None;
        if let Some((beside, label)) = &diagnostic.beside
            && let Some(there) = self.sources.of(beside)
        {
            let range = beside.within(&there.text);
            let context = AnnotationKind::Context.span(range).label(label.as_str());
            if beside.source == at.source {
                snippet = snippet.annotation(context);
            } else {
                let path = there.name.as_str();
                let text = there.text.as_str();
                other = Some(Snippet::source(text).path(path).annotation(context));
            }
        }
        let mut group = title.element(snippet);
        if let Some(other) = other {
            group = group.element(other);
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{}\n", self.show(diagnostic, Level::ERROR))?;
        }
        let (count, noun) = (self.count(), if self.count() == 1 { "mistake" } else { "mistakes" });
        write!(f, "{count} {noun} in the configuration")
    }
}

impl std::error::Error for Errors {}
