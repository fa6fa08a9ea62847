//! Attributes: how most payloads are laid out behind a header of their own.

/// The bits that are its kind: the others say that it holds attributes, and in which order of bytes a number is.
const KIND_MASK: u16 = 0x3fff;

const HEADER_LEN: usize = 4;

/// The attributes of a payload or of an attribute, each with its kind. Ends where the bytes make no sense.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (header, _) = rest.split_first_chunk::<HEADER_LEN>()?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND_MASK;
        let value = rest.get(HEADER_LEN..len)?;
        rest = rest.get(aligned(len)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// Messages and attributes begin at multiples of four bytes (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
pub(crate) const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_told_by_kind_whatever_they_hold() {
        let bytes = [7, 0, 1, 0, b'a', b'b', b'c', 0, 8, 0, 2, 0x80, 4, 0, 3, 0];
        let told: Vec<_> = attributes(&bytes).collect();
        assert_eq!(told, [(1, &b"abc"[..]), (2, &[4, 0, 3, 0])]);
        assert_eq!(attributes(told[1].1).collect::<Vec<_>>(), [(3, &[][..])]);
    }

    #[test]
    fn reading_ends_where_bytes_make_no_sense() {
        for bad in [&[8, 0, 1, 0, 5][..], &[3, 0, 1, 0], &[0; 4], &[1, 2, 3]] {
            assert_eq!(attributes(bad).count(), 0, "{bad:?}");
        }
    }
}
