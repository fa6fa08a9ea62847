//! The one error of parsing.

use std::borrow::Cow;

use crate::limits::ECHO_LEN_MAX;

/// A value from outside that breaks a rule of the vocabulary.
///
/// Its `Display` names the field, quotes the value (shortened, control characters escaped) and states the
/// rule, so that it can be shown to a user as it is:
/// `port "0": must be a number from 1 to 65535`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {}: {rule}", quote(.value))]
pub struct Invalid {
    field: &'static str,
    value: String,
    rule: Cow<'static, str>,
}

impl Invalid {
    /// Says that `value`, given for `field`, breaks `rule`.
    pub fn new(
        field: &'static str,
        value: impl std::fmt::Display,
        rule: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { field, value: value.to_string(), rule: rule.into() }
    }

    /// The field that was refused, in the words of the glossary.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The rule that was broken.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

fn quote(value: &str) -> String {
    match value.char_indices().nth(ECHO_LEN_MAX) {
        None => format!("{value:?}"),
        Some((cut, _)) => format!("{:?} (of {} bytes)", format!("{}...", &value[..cut]), value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_shortened_and_control_characters_escaped() {
        let error = Invalid::new("tag", format!("\n{}", "x".repeat(300)), "too long");
        let text = error.to_string();
        assert!(text.starts_with("tag \"\\nxxx"), "{text}");
        assert!(text.ends_with("...\" (of 301 bytes): too long"), "{text}");
        assert!(text.len() < 120, "{text}");
    }
}
