//! The first packet of an OpenPGP private key (RFC 9580, sections 4.2 and 5.5): is it there, and is
//! it under a passphrase.

/// How the secret half is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    Passphrase,
}

/// Reads the secret-key packet at the start of a key. `None` if there is none.
pub(crate) fn protection(key: &[u8]) -> Option<Protection> {
    let mut packet = Reader(packet(key)?);
    let version = packet.byte()?;
    packet.take(4)?;
    match version {
        3 => {
            packet.take(2)?;
            packet.byte()?;
            public_key(1, &mut packet)?;
        }
        4 => {
            let algorithm = packet.byte()?;
            public_key(algorithm, &mut packet)?;
        }
        5 | 6 => {
            packet.byte()?;
            let length = packet.number(4)?;
            packet.take(length)?;
        }
        _ => return None,
    }
    match packet.byte()? {
        0 => Some(Protection::None),
        _ => Some(Protection::Passphrase),
    }
}

/// The body of a secret-key packet (tag 5), in the old and the new form.
fn packet(key: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader(key);
    let head = reader.byte()?;
    let length = match head {
        0x94 => reader.number(1)?,
        0x95 => reader.number(2)?,
        0x96 => reader.number(4)?,
        0xC5 => match reader.byte()? {
            first @ ..192 => usize::from(first),
            first @ 192..224 => (usize::from(first) - 192) * 256 + reader.number(1)? + 192,
            255 => reader.number(4)?,
            _ => return None,
        },
        _ => return None,
    };
    reader.take(length)
}

/// Passes over the public half, by algorithm (RFC 9580 section 9.1).
fn public_key(algorithm: u8, reader: &mut Reader<'_>) -> Option<()> {
    let numbers = match algorithm {
        1..=3 => 2,
        16 => 3,
        17 => 4,
        18 | 19 | 22 => {
            let length = reader.number(1)?;
            reader.take(length)?;
            1
        }
        // X25519, X448, Ed25519, Ed448: as many bytes as the curve has.
        25 | 27 => return reader.take(32).map(|_| ()),
        26 => return reader.take(56).map(|_| ()),
        28 => return reader.take(57).map(|_| ()),
        _ => return None,
    };
    for _ in 0..numbers {
        let bits = reader.number(2)?;
        reader.take(bits.div_ceil(8))?;
    }
    if algorithm == 18 {
        let length = reader.number(1)?;
        reader.take(length)?;
    }
    Some(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    /// A number of at most four bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let wide = self.take(bytes)?.iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        usize::try_from(wide).ok()
    }
}
