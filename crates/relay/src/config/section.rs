//! How options are declared: one macro makes the struct, the reader and the reference entry.
//!
//! Invariant: a field cannot exist without its doc comment and its default. Pure.

use super::schema::Shape;

/// The reference entry of a section.
#[derive(Clone, Copy, Debug)]
pub struct SectionDoc {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is about; one or more lines with a leading space each.
    pub about: &'static str,
    /// How often it may stand.
    pub repeats: Repeats,
    /// Its options, in the order of the reference.
    pub options: &'static [OptionDoc],
}

/// How often a section may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Any number of times: `[[name]]`, each with a `name` of its own.
    Named,
    /// Once: `[name]`.
    Once,
}

/// The reference entry of an option.
#[derive(Clone, Copy, Debug)]
pub struct OptionDoc {
    /// Its name in the section.
    pub name: &'static str,
    /// Meaning, unit, source; one or more lines with a leading space each.
    pub doc: &'static str,
    /// What may be written.
    pub form: &'static str,
    /// The same for an editor.
    pub shape: Shape,
    /// What holds where it is not set.
    pub default: Default,
}

/// What holds where an option is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Found out at start, as this sentence says.
    Found(&'static str),
    /// There is none: it must be set.
    Required,
    /// This value.
    Value(&'static str),
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $repeats:ident $section:literal $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr; )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl $name {
            /// The reference entry.
            pub const DOC: $crate::config::section::SectionDoc =
                $crate::config::section::SectionDoc {
                    name: $section,
                    about: concat!($($about, "\n"),+),
                    repeats: $crate::config::section::Repeats::$repeats,
                    options: &[$( $crate::config::section::OptionDoc {
                        name: stringify!($field),
                        doc: concat!($($doc, "\n"),+),
                        form: <$type as $crate::config::setting::Setting>::FORM,
                        shape: <$type as $crate::config::setting::Setting>::SHAPE,
                        default: $default,
                    } ),+],
                };

            /// Reads all options first, so that all errors are told at once.
            pub(super) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                $( let $field = reader.option::<$type>(stringify!($field), $default); )+
                Some(Self { $( $field: $field? ),+ })
            }
        }
    };
}

pub(super) use section;
