//! The live view: what happened scrolls up, and the table below it is redrawn in place.

use std::io::{self, IsTerminal as _, Write as _};

/// Prints lines and keeps a block of text below them, where that is possible.
pub(crate) struct Screen {
    /// Whether the output is a terminal, on which text can be replaced.
    is_live: bool,
    /// How many lines of the block are on the screen.
    drawn: usize,
    block: String,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { is_live: io::stdout().is_terminal(), drawn: 0, block: String::new() }
    }

    /// Prints a line above the block.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.erase(&mut out)?;
        writeln!(out, "{text}")?;
        self.redraw(&mut out)
    }

    /// Replaces the block. Where text cannot be replaced, it is only remembered.
    pub(crate) fn show(&mut self, block: String) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.erase(&mut out)?;
        self.block = block;
        self.redraw(&mut out)
    }

    /// Prints the block for good.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.erase(&mut out)?;
        out.write_all(self.block.as_bytes())?;
        out.flush()
    }

    fn erase(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        if self.drawn > 0 {
            // Cursor to the start of the block, then clear to the end of the screen (ECMA-48: CPL, ED).
            write!(out, "\x1b[{}F\x1b[J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    fn redraw(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        if self.is_live {
            out.write_all(self.block.as_bytes())?;
            self.drawn = self.block.lines().count();
        }
        out.flush()
    }
}
