//! Netlink attributes: length, kind, value, padded to four bytes; numbers of netfilter are big-endian.

use netloft_netlink::attributes;

/// The bit that marks an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;

const HEADER_LEN: usize = 4;

/// Writes attributes at the end of a buffer.
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.0.extend(length(HEADER_LEN + value.len()).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        // The next begins at a multiple of four bytes (`NLA_ALIGNTO`).
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Text, ended by a zero byte.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes inside an attribute.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let start = self.0.len();
        self.bytes(kind | NESTED, &[]);
        fill(&mut Writer(self.0));
        let len = length(self.0.len() - start);
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Attributes that were written elsewhere.
    pub(crate) fn raw(&mut self, attributes: &[u8]) -> &mut Self {
        self.0.extend(attributes);
        self
    }

    /// How long the buffer is by now.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("who writes long lists cuts them into messages")
}

/// The first attribute of a kind.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text attribute.
pub(crate) fn find_text(bytes: &[u8], kind: u16) -> Option<&str> {
    let text = std::str::from_utf8(find(bytes, kind)?).ok()?;
    Some(text.trim_end_matches('\0'))
}

/// A number of four bytes.
pub(crate) fn find_u32(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

/// A number of eight bytes.
pub(crate) fn find_u64(bytes: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = Vec::new();
        Writer::new(&mut bytes).text(1, "abc").u32(2, 7).nested(3, |inner| {
            inner.u8(1, 9).u64(2, 1 << 40);
        });
        assert_eq!(bytes.len(), 8 + 8 + 4 + 8 + 12);
        assert_eq!(find_text(&bytes, 1), Some("abc"));
        assert_eq!(find_u32(&bytes, 2), Some(7));
        let inner = find(&bytes, 3).unwrap();
        assert_eq!((find(inner, 1), find_u64(inner, 2)), (Some(&[9][..]), Some(1 << 40)));
    }
}
