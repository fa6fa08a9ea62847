//! What a probe or a heartbeat found.

use netloft_types::Output;

/// How a check went, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// How it went.
    pub outcome: Outcome,
    /// What there is to say about it.
    pub output: Output,
}

impl Observation {
    /// Something that went well.
    pub fn pass(output: &str) -> Self {
        Self { outcome: Outcome::Pass, output: Output::of(output) }
    }

    /// Something that went well enough.
    pub fn warn(output: &str) -> Self {
        Self { outcome: Outcome::Warn, output: Output::of(output) }
    }

    /// Something that failed.
    pub fn fail(output: &str) -> Self {
        Self { outcome: Outcome::Fail, output: Output::of(output) }
    }
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Pass,
    /// It works, with complaints.
    Warn,
    /// It does not work.
    Fail,
}
