//! The configuration as a JSON Schema, so that an editor knows the options while one types.
//!
//! Invariant: generated from [`SECTIONS`] alone, as the reference is; what `config check` takes,
//! the schema takes. It knows less: what does not go together is for `config check`. Pure.

use serde_json::{Map, Value, json};

use super::{
    options::SECTIONS,
    reference::plain,
    section::{Default, OptionDoc, Repeats, SectionDoc},
};

/// What a value is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A list, or one item of it.
    List(&'static Self),
    /// A whole number, at least this.
    Number(u64),
    /// The shape, or `"off"`.
    Optional(&'static Self),
    /// A string.
    Text,
}

/// The schema of a file (JSON Schema, draft 7, which editors of TOML read).
pub fn schema() -> String {
    let sections = SECTIONS.iter().map(|section| (section.name.to_owned(), of_section(section)));
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Merpati: the configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": sections.collect::<Map<String, Value>>(),
    });
    // A value of this kind is always written.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn of_section(section: &SectionDoc) -> Value {
    let options = section.options.iter();
    let properties = options.clone().map(|option| (option.name.to_owned(), of_option(option)));
    let required = options.filter(|option| option.default == Default::Required);
    let required: Vec<&str> = required.map(|option| option.name).collect();
    let table = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties.collect::<Map<String, Value>>(),
    });
    let description = json!(plain(section.about));
    match section.repeats {
        Repeats::Once => with(&table, [("description", description)]),
        Repeats::Named => {
            let table = with(&table, [("required", json!(required))]);
            json!({ "type": "array", "description": description, "items": table })
        }
    }
}

fn of_option(option: &OptionDoc) -> Value {
    let description = json!(format!("{}\n\nValue: {}.", plain(option.doc), option.form));
    let more = [("description", description)].into_iter();
    let more = more.chain(default(option).map(|default| ("default", default)));
    with(&of_shape(&option.shape, option.form), more)
}

/// An object with these members besides.
fn with(value: &Value, more: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut members = value.as_object().cloned().unwrap_or_default();
    members.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(members)
}

fn of_shape(shape: &Shape, form: &str) -> Value {
    match shape {
        Shape::Boolean => json!({ "enum": [true, false, "true", "false"] }),
        Shape::List(item) => {
            let item = of_shape(item, form);
            json!({ "anyOf": [{ "type": "array", "items": item }, { "type": "string" }] })
        }
        Shape::Number(least) => json!({
            "anyOf": [
                { "type": "integer", "minimum": least },
                { "type": "string", "pattern": "^[0-9]+$" },
            ],
        }),
        Shape::Optional(inner) => {
            json!({ "anyOf": [of_shape(inner, form), { "const": "off" }] })
        }
        Shape::Text => match words(form) {
            Some(words) => json!({ "type": "string", "enum": words }),
            None => json!({ "type": ["string", "integer"] }),
        },
    }
}

fn default(option: &OptionDoc) -> Option<Value> {
    let Default::Value(text) = option.default else { return None };
    Some(match option.shape {
        Shape::Boolean => json!(text == "true"),
        Shape::List(_) if text.is_empty() => json!([]),
        Shape::Number(_) | Shape::Optional(Shape::Number(_)) => {
            text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
        }
        Shape::List(_) | Shape::Optional(_) | Shape::Text => json!(text),
    })
}

/// The words of a form such as `"keep" or "discard"`; `None` where it says more than words.
fn words(form: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = form.split('"').collect();
    let between = parts.iter().step_by(2);
    let is_list = between.clone().all(|text| ["", ", ", " or "].contains(text));
    let words: Vec<&str> = parts.iter().skip(1).step_by(2).copied().collect();
    (is_list && words.len() > 1).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_words_alone_is_an_enumeration() {
        for (form, want) in [
            ("\"keep\" or \"discard\"", Some(vec!["keep", "discard"])),
            ("\"a\", \"b\" or \"c\"", Some(vec!["a", "b", "c"])),
            ("\"stdout\", \"off\" or an absolute path", None),
            ("a duration such as \"30 s\" or \"5 min\"", None),
            ("a path", None),
        ] {
            assert_eq!(words(form), want, "{form}");
        }
    }

    #[test]
    fn the_schema_knows_every_option_its_default_and_what_must_be_set() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        for section in SECTIONS {
            let mut table = &schema["properties"][section.name];
            if section.repeats == Repeats::Named {
                table = &table["items"];
            }
            for option in section.options {
                let found = &table["properties"][option.name];
                assert!(found["description"].is_string(), "{}.{}", section.name, option.name);
                let required = table.get("required").and_then(Value::as_array);
                let is_required = required.is_some_and(|all| all.contains(&json!(option.name)));
                assert_eq!(is_required, option.default == Default::Required, "{}", option.name);
            }
        }
        let option = |path: &str| schema.pointer(path).unwrap().clone();
        let kind = option("/properties/listener/items/properties/kind");
        assert_eq!(kind["enum"], json!(["relay", "submission", "sandbox", "rehearsal"]));
        let port = option("/properties/delivery/properties/port");
        assert_eq!((&port["anyOf"][0]["minimum"], &port["default"]), (&json!(1), &json!(25)));
        let queue = option("/properties/limits/properties/queue_max");
        assert_eq!(queue["anyOf"][1], json!({ "const": "off" }));
    }
}
