//! How a check stands, for those who ask.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CheckName;
use crate::Health;

/// How a check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// Which one.
    pub name: CheckName,
    /// What its results add up to.
    pub health: Health,
    /// For how long that has been so, as far as whoever runs it knows.
    pub age: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// What was said about the last result.
    pub output: Output,
    /// Whether it is held critical for changing to and fro.
    pub is_damped: bool,
    /// Whether the instance stays what it was because too much of its service fails at once.
    pub is_held: bool,
}

/// Text from outside to be shown to people: at most 256 bytes, without control characters and without those that change
/// the direction of text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Output(Arc<str>);

const OUTPUT_LEN_MAX: usize = 256;

impl Output {
    /// Makes the text fit to be shown. What is not is replaced, what is too long is cut off.
    pub fn of(text: &str) -> Self {
        let mut shown = String::new();
        for char in text.trim().chars() {
            let char = if is_presentable(char) { char } else { '\u{fffd}' };
            if shown.len() + char.len_utf8() > OUTPUT_LEN_MAX {
                break;
            }
            shown.push(char);
        }
        // Where it was cut off there may be a space; whoever is told the text makes it fit again.
        Self(shown.trim_end().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Unicode's bidirectional controls (UAX 9, section 2) can make a line read as another.
fn is_presentable(char: char) -> bool {
    let is_directional = matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !char.is_control() && !is_directional && !matches!(char, '\u{2028}' | '\u{2029}')
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        let hostile = format!("  ok\r\n\x1b[31mred \u{202e}gnp.exe {}", "é".repeat(300));
        let output = Output::of(&hostile);
        assert!(output.as_str().len() <= OUTPUT_LEN_MAX && output.as_str().len() > 250, "{output}");
        assert!(
            output.as_str().starts_with("ok\u{fffd}\u{fffd}\u{fffd}[31mred \u{fffd}gnp.exe é"),
            "{output}"
        );
        assert_eq!(Output::of("HTTP 200").as_str(), "HTTP 200");
    }

    // A text that was cut off after a space lost that when it was told on: who asked saw another than who had looked.
    #[test]
    fn what_is_shown_is_shown_again_as_it_is() {
        let output = Output::of(&format!("{} and more", "x".repeat(OUTPUT_LEN_MAX - 1)));
        assert_eq!(Output::of(output.as_str()), output);
        assert_eq!(output.as_str().len(), OUTPUT_LEN_MAX - 1);
    }
}
