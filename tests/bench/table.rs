//! How figures are shown: a line for each contender, and its ratio to ours.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Result;

use crate::samples::{Samples, shorten};

/// Figures of one kind, side by side.
pub(crate) struct Table {
    title: String,
    unit: Unit,
    lines: Vec<(String, Figure)>,
}

/// What the figures of a table are in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    /// Anything that is counted, with the number of decimals that mean something.
    Counted(&'static str, usize),
}

/// What is known of one contender.
pub(crate) enum Figure {
    Times(Samples),
    Number(f64),
    /// It was not measured, and why.
    Absent(String),
}

/// Those of us to whom the others are compared, with the heads of their columns.
const OURS: [(&str, &str); 2] = [("netloft in process", "/in process"), ("netloftd", "/netloftd")];

impl Table {
    pub(crate) fn new(title: impl Into<String>, unit: Unit) -> Self {
        Self { title: title.into(), unit, lines: Vec::new() }
    }

    pub(crate) fn line(&mut self, who: impl Into<String>, figure: Figure) {
        self.lines.push((who.into(), figure));
    }

    /// Prints it, with what went wrong below it.
    pub(crate) fn print(&self) -> Result<()> {
        Ok(writeln!(io::stdout(), "\n{}", self.render())?)
    }

    fn render(&self) -> String {
        let mut text = format!("{}, {}\n", self.title, self.unit.name());
        let ours: Vec<_> = OURS.iter().filter_map(|(who, head)| Some((*head, self.value(who)?))).collect();
        let heads = if self.is_timed() { ["n", "min", "p50", "p99"].as_slice() } else { &["figure"] };
        let _ = write!(text, "{:<34}", "");
        for head in heads.iter().copied().chain(ours.iter().map(|(head, _)| *head)) {
            let _ = write!(text, "{head:>12}");
        }
        for (who, figure) in &self.lines {
            let _ = write!(text, "\n{who:<34}{}", self.cells(figure, &ours, heads.len()));
        }
        for (who, figure) in &self.lines {
            if let Figure::Times(samples) = figure
                && let Some(complaint) = samples.complaint()
            {
                let _ = write!(text, "\n  {who}: {complaint}");
            }
        }
        text
    }

    fn cells(&self, figure: &Figure, ours: &[(&str, f64)], columns: usize) -> String {
        let mut text = match figure {
            Figure::Absent(reason) => return format!("  not run: {}", shorten(reason)),
            Figure::Times(samples) if samples.count() == 0 => return "  never succeeded".into(),
            Figure::Times(samples) => {
                let count = format!("{:>12}", samples.count());
                [0.0, 0.5, 0.99].iter().fold(count, |text, &share| {
                    text + &format!("{:>12.3}", self.unit.of(samples, share).unwrap_or_default())
                })
            }
            Figure::Number(number) => {
                format!("{number:>12.0$}", self.unit.decimals()) + &" ".repeat(12 * (columns - 1))
            }
        };
        for (_, our) in ours {
            let ratio = self.central(figure).map(|value| value / our).filter(|ratio| ratio.is_finite());
            let _ = match ratio {
                Some(ratio) if ratio < 100.0 => write!(text, "{ratio:>12.2}"),
                Some(ratio) => write!(text, "{ratio:>12.0}"),
                None => write!(text, "{:>12}", "-"),
            };
        }
        text
    }

    fn is_timed(&self) -> bool {
        self.lines.iter().any(|(_, figure)| matches!(figure, Figure::Times(_)))
    }

    fn value(&self, who: &str) -> Option<f64> {
        self.central(&self.lines.iter().find(|(name, _)| name == who)?.1)
    }

    /// The figure that ratios are made of.
    fn central(&self, figure: &Figure) -> Option<f64> {
        match figure {
            Figure::Times(samples) => self.unit.of(samples, 0.5),
            Figure::Number(number) => Some(*number),
            Figure::Absent(_) => None,
        }
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Counted(name, _) => name,
        }
    }

    fn decimals(self) -> usize {
        match self {
            Self::Milliseconds | Self::Microseconds => 3,
            Self::Counted(_, decimals) => decimals,
        }
    }

    fn of(self, samples: &Samples, share: f64) -> Option<f64> {
        let seconds = samples.quantile(share)?.as_secs_f64();
        Some(seconds * if matches!(self, Self::Microseconds) { 1e6 } else { 1e3 })
    }
}
