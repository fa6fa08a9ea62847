//! How figures are shown: a line for each contender, and its ratio to ours.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Result;

use super::load::{COLUMNS, COMPARED, Load};
use super::samples::{Samples, shorten};

/// Figures of one kind, side by side.
pub struct Table {
    title: String,
    unit: Unit,
    lines: Vec<(String, Figure)>,
}

/// What the figures of a table are in.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Time, in milliseconds.
    Milliseconds,
    /// Time, in microseconds.
    Microseconds,
    /// Anything that is counted, with the number of decimals that mean something.
    Counted(&'static str, usize),
}

/// What is known of one contender. Loads are in columns of their own; a table has them for all or for none.
pub enum Figure {
    /// How long something took, many times.
    Times(Samples),
    /// How much something is.
    Number(f64),
    /// How a server bore a load.
    Load(Load),
    /// It was not measured, and why.
    Absent(String),
}

/// Those of us to whom the others are compared, with the heads of their columns.
const OURS: [(&str, &str); 4] = [
    ("netloft in process", "/in process"),
    ("netloftd", "/netloftd"),
    ("netloft, memory", "/memory"),
    ("netloft, embedded", "/embedded"),
];

impl Table {
    /// Begins a table.
    pub fn new(title: impl Into<String>, unit: Unit) -> Self {
        Self { title: title.into(), unit, lines: Vec::new() }
    }

    /// Begins a table of loads, which have units of their own.
    pub fn of_loads(title: impl Into<String>) -> Self {
        Self::new(title, Unit::Counted("median of the rounds", 0))
    }

    /// Adds a line.
    pub fn line(&mut self, who: impl Into<String>, figure: Figure) {
        self.lines.push((who.into(), figure));
    }

    /// Prints it, with what went wrong below it.
    ///
    /// # Errors
    ///
    /// If there is nowhere to print to.
    pub fn print(&self) -> Result<()> {
        Ok(writeln!(io::stdout(), "\n{}", self.render())?)
    }

    fn render(&self) -> String {
        let mut text = format!("{}, {}\n", self.title, self.unit.name());
        let heads = self.heads();
        let ours: Vec<_> = OURS.iter().filter_map(|(who, head)| Some((*head, self.compared(who)?))).collect();
        let _ = write!(text, "{:<34}", "");
        for head in &heads {
            let _ = write!(text, "{head:>12}");
        }
        for (head, values) in &ours {
            // A load has names for what is compared; other figures are compared by the one that matters.
            let names = COMPARED.map(|(_, name)| name);
            for name in if values.len() > 1 { &names[..] } else { &[""] } {
                let _ = write!(text, "{:>14}", format!("{name}{head}"));
            }
        }
        for (who, figure) in &self.lines {
            let _ = write!(text, "\n{who:<34}{}", self.cells(figure, &ours, heads.len()));
        }
        for (who, figure) in &self.lines {
            let complaint = match figure {
                Figure::Times(samples) => samples.complaint(),
                Figure::Load(load) => load.complaint(),
                Figure::Number(_) | Figure::Absent(_) => None,
            };
            if let Some(complaint) = complaint {
                let _ = write!(text, "\n  {who}: {complaint}");
            }
        }
        text
    }

    fn heads(&self) -> Vec<&'static str> {
        let has = |kind: fn(&Figure) -> bool| self.lines.iter().any(|(_, figure)| kind(figure));
        if has(|figure| matches!(figure, Figure::Load(_))) {
            COLUMNS.iter().map(|(head, _)| *head).collect()
        } else if has(|figure| matches!(figure, Figure::Times(_))) {
            vec!["n", "min", "p50", "p99"]
        } else {
            vec!["figure"]
        }
    }

    fn cells(&self, figure: &Figure, ours: &[(&str, Vec<f64>)], columns: usize) -> String {
        let mut text = match figure {
            Figure::Absent(reason) => return format!("  not run: {}", shorten(reason)),
            Figure::Times(samples) if samples.count() == 0 => return "  never succeeded".into(),
            Figure::Load(load) => {
                COLUMNS.iter().enumerate().fold(String::new(), |text, (column, (_, decimals))| {
                    text + &format!("{:>12.decimals$}", load.median(column).unwrap_or_default())
                })
            }
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
        for (our, value) in ours.iter().flat_map(|(_, ours)| ours.iter().zip(self.central(figure))) {
            let _ = match value / our {
                ratio if !ratio.is_finite() => write!(text, "{:>14}", "-"),
                ratio if ratio < 100.0 => write!(text, "{ratio:>14.2}"),
                ratio => write!(text, "{ratio:>14.0}"),
            };
        }
        text
    }

    fn compared(&self, who: &str) -> Option<Vec<f64>> {
        let values = self.central(&self.lines.iter().find(|(name, _)| name == who)?.1);
        (!values.is_empty()).then_some(values)
    }

    /// The figures that ratios are made of.
    fn central(&self, figure: &Figure) -> Vec<f64> {
        match figure {
            Figure::Times(samples) => self.unit.of(samples, 0.5).into_iter().collect(),
            Figure::Number(number) => vec![*number],
            Figure::Load(load) => COMPARED.iter().filter_map(|(column, _)| load.median(*column)).collect(),
            Figure::Absent(_) => Vec::new(),
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
