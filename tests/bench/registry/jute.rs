//! The encoding that `ZooKeeper` uses.

use anyhow::{Context as _, Result};

/// A record on its way out, after room for its length.
pub(crate) struct Request(Vec<u8>);

impl Request {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(64))
    }

    pub(crate) fn int(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn long(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn bool(mut self, value: bool) -> Self {
        self.0.push(value.into());
        self
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Result<Self> {
        let mut this = self.int(value.len().try_into()?);
        this.0.extend(value);
        Ok(this)
    }

    pub(crate) fn text(self, value: &str) -> Result<Self> {
        self.bytes(value.as_bytes())
    }

    /// The record with its length before it.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let len = u32::try_from(self.0.len())?;
        Ok([&len.to_be_bytes()[..], &self.0].concat())
    }

    /// The same with the header of a request.
    pub(crate) fn finish_with(self, number: i32, kind: i32) -> Result<Vec<u8>> {
        let mut whole = Self::new().int(number).int(kind);
        whole.0.extend(self.0);
        whole.finish()
    }
}

/// A record that came in.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Self(frame)
    }

    pub(crate) fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.array::<1>()? != [0])
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.int()?)?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        Ok(str::from_utf8(self.bytes()?)?)
    }

    pub(crate) fn skip(&mut self, len: usize) -> Result<()> {
        self.take(len).map(drop)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).context("the record is too short")?;
        self.0 = rest;
        Ok(taken)
    }
}
