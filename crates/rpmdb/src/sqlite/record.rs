//! Rows: sections 1.6 ("variable-length integer") and 2.1 ("Record Format") of SQLite's file format.

/// A number of one to nine bytes, and how many there are.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    // The ninth counts whole.
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// A column of a row.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Integer(i64),
    /// A number with a fraction, of which the value is not needed.
    Real,
    /// A blob or a text.
    Bytes(&'a [u8]),
}

/// The columns of a row that are still to come. A column that is damaged is given as nothing, and ends
/// the row.
pub(super) struct Record<'a> {
    types: &'a [u8],
    values: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn new(row: &'a [u8]) -> Option<Record<'a>> {
        let (head, used) = varint(row)?;
        let (head, values) = row.split_at_checked(usize::try_from(head).ok()?)?;
        Some(Record { types: head.get(used..)?, values })
    }

    fn column(&mut self) -> Option<Value<'a>> {
        let (kind, used) = varint(self.types)?;
        self.types = self.types.get(used..)?;
        let length = match kind {
            0..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            8 | 9 => 0,
            // These two are not in files.
            10 | 11 => return None,
            _ => (kind - 12) / 2,
        };
        let (value, rest) = self.values.split_at_checked(usize::try_from(length).ok()?)?;
        self.values = rest;
        Some(match kind {
            0 => Value::Null,
            1..=6 => Value::Integer(integer(value)),
            7 => Value::Real,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            _ => Value::Bytes(value),
        })
    }
}

impl<'a> Iterator for Record<'a> {
    type Item = Option<Value<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.types.is_empty() {
            return None;
        }
        let column = self.column();
        if column.is_none() {
            self.types = &[];
        }
        Some(column)
    }
}

/// A signed number, big-endian, of up to eight bytes.
fn integer(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let begin = if negative { -1 } else { 0 };
    bytes.iter().fold(begin, |value, byte| value << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_has_one_to_nine_bytes() {
        let check = |bytes: &[u8], expected| assert_eq!(varint(bytes), expected, "{bytes:x?}");
        check(&[0], Some((0, 1)));
        check(&[0x7f, 0xff], Some((0x7f, 1)));
        check(&[0x81, 0x00], Some((0x80, 2)));
        check(&[0xff, 0xff, 0x7f], Some((0x1f_ffff, 3)));
        check(&[0x80, 0x80, 0x01], Some((1, 3)));
        check(&[0xff; 9], Some((u64::MAX, 9)));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x05, 0xff], Some((5, 9)));
        check(&[], None);
        check(&[0x80], None);
        check(&[0xff; 8], None);
    }

    #[test]
    fn a_record_is_columns_by_their_types() {
        let check = |row: &[u8], expected: Option<Vec<Option<Value<'_>>>>| {
            assert_eq!(Record::new(row).map(Iterator::collect), expected, "{row:x?}");
        };
        check(&[1], Some(vec![]));
        check(&[2, 0], Some(vec![Some(Value::Null)]));
        let (zero, one) = (Some(Value::Integer(0)), Some(Value::Integer(1)));
        check(&[3, 8, 9], Some(vec![zero, one]));
        check(&[2, 1, 0x80], Some(vec![Some(Value::Integer(-128))]));
        check(&[2, 3, 1, 0, 0], Some(vec![Some(Value::Integer(65536))]));
        check(&[2, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(vec![Some(Value::Integer(-2))]));
        let most = Some(Value::Integer(i64::MIN));
        check(&[2, 6, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(vec![most]));
        check(&[2, 7, 0, 0, 0, 0, 0, 0, 0, 0], Some(vec![Some(Value::Real)]));
        let (empty, two) = (Some(Value::Bytes(b"")), Some(Value::Bytes(b"ab")));
        check(&[4, 12, 13, 17, b'a', b'b', b'c'], Some(vec![empty, Some(Value::Bytes(b"")), two]));
        // Damaged ones.
        check(&[2, 16, b'a'], Some(vec![None]));
        check(&[4, 10, 8, 8], Some(vec![None]));
        check(&[3, 8, 0x80], Some(vec![Some(Value::Integer(0)), None]));
        check(&[], None);
        check(&[0], None);
        check(&[3, 0], None);
    }
}
