//! How a table of the configuration becomes a struct: option by option, with every error noted.
//!
//! Pure.

use super::{
    Effective,
    diagnostic::Diagnostic,
    section::{Default, Repeats, SectionDoc},
    setting::{Setting, Wrong},
    source::{Entry, Node, Sources, Span, Table},
};

/// Reads the options of one table.
pub(super) struct Reader<'a> {
    /// The section that the table belongs to.
    pub section: &'a SectionDoc,
    /// What was written.
    pub table: &'a Table,
    /// Where it was written.
    pub sources: &'a Sources,
    /// What is wrong so far.
    pub diagnostics: &'a mut Vec<Diagnostic>,
    /// What holds so far.
    pub effective: &'a mut Vec<Effective>,
}

impl Reader<'_> {
    /// The value of an option; `None`, with a diagnostic, where it has none.
    pub(super) fn option<T: Setting>(&mut self, name: &str, default: Default) -> Option<T> {
        let value = match (self.table.entries.get(name), default) {
            (Some(entry), _) => self.written(entry)?,
            (None, Default::Value(text)) => T::read(&Node::Text(text.to_owned())).ok()?,
            (None, Default::Found(_) | Default::Required) => {
                let section = self.section.name;
                let why = format!("`{name}` is missing in this {section}");
                let help = format!("add {name}: {}", T::FORM);
                self.diagnostics.push(Diagnostic::new(why, self.table.head.clone()).help(help));
                return None;
            }
        };
        let key = match self.section.repeats {
            Repeats::Named => format!("{}.{}.{name}", self.section.name, self.table.name()),
            Repeats::Once => format!("{}.{name}", self.section.name),
        };
        let source = self.table.entries.get(name).map(|entry| &entry.value);
        let source = source.filter(|span| !span.is_nowhere());
        self.effective.push(Effective {
            key,
            value: value.show(),
            source: source.map(|span| self.sources.place(span)),
            at: source.cloned().unwrap_or_else(Span::nowhere),
        });
        Some(value)
    }

    fn written<T: Setting>(&mut self, entry: &Entry) -> Option<T> {
        match T::read(&entry.node) {
            Ok(value) => Some(value),
            Err(mut wrong) => {
                let others = std::mem::take(&mut wrong.others);
                for Wrong { why, help, at, .. } in std::iter::once(wrong).chain(others) {
                    let at: Span = at.unwrap_or_else(|| entry.value.clone());
                    self.diagnostics.push(Diagnostic { help, ..Diagnostic::new(why, at) });
                }
                None
            }
        }
    }
}
