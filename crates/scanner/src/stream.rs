//! Bytes on their way: taken out of their compression, counted, and compared with a digest.

use std::io::{self, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use portcullis_types::Digest;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

/// Most bytes of a window of zstd: what its own tool takes without being told to.
const MAX_WINDOW: u64 = 128 << 20;
const BUFFER: usize = 128 << 10;

/// A source whose first bytes were looked at.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

fn peek<R: Read>(mut reader: R, count: u64) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut head = Vec::new();
    (&mut reader).take(count).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// What a layer holds, whatever it is compressed with: told by its first bytes, as containerd does
/// (`pkg/archive/compression`), and not by its media type.
///
/// # Errors
/// It cannot be read, or is compressed in a way that no engine takes.
pub(crate) fn decompressed<'r>(reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let (head, reader) = peek(reader, 6)?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => {
            Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(BUFFER, reader)))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Zstd::new(io::BufReader::with_capacity(BUFFER, reader)))
        }
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            let why = "it is compressed with bzip2 or xz, which only Docker takes";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        _ => Box::new(reader),
    })
}

/// Frames of zstd one after another (RFC 8878), with the skippable ones that `zstd:chunked` has its
/// table of contents in.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    is_within: bool,
}

impl<R: Read> Zstd<R> {
    fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self { source, decoder, is_within: false }
    }

    /// Goes to the next frame with content; `false` if there is none.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = Vec::new();
            (&mut self.source).take(4).read_to_end(&mut magic)?;
            match magic.as_slice() {
                [] => return Ok(false),
                [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                    let mut length = [0; 4];
                    self.source.read_exact(&mut length)?;
                    let length = u64::from(u32::from_le_bytes(length));
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped != length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => {
                    let frame = Cursor::new(magic).chain(&mut self.source);
                    self.decoder.init(frame).map_err(io::Error::other)?;
                    return Ok(true);
                }
            }
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_within {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.is_within = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            self.is_within = false;
        }
    }
}

/// Takes the SHA-256 of what is read.
pub(crate) struct Hashed<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    /// Of this reader.
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, hash: Sha256::new() }
    }

    /// Reads what is left, and gives the digest of all.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        let mut buffer = vec![0; BUFFER];
        while self.read(&mut buffer)? > 0 {}
        Ok(Digest::sha256(self.hash.finalize().into()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

/// Lets only so many bytes come out of so many: a bomb is an error, however far its end is.
pub(crate) struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// At most `limit` bytes of this reader.
    pub(crate) fn new(reader: R, limit: u64) -> Self {
        Self { reader, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "it holds more than any layer may")
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(content).unwrap();
        writer.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(content, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn what_is_compressed_is_told_by_its_content() {
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc"].concat();
        for (bytes, wanted) in [
            (b"plain".to_vec(), &b"plain"[..]),
            (Vec::new(), b""),
            (gzip(b"content"), b"content"),
            ([gzip(b"two "), gzip(b"members")].concat(), b"two members"),
            (zstd(b"content"), b"content"),
            ([zstd(b"two "), zstd(b""), zstd(b"frames")].concat(), b"two frames"),
            (
                [skippable.clone(), zstd(b"a"), skippable.clone(), zstd(b"b"), skippable].concat(),
                b"ab",
            ),
        ] {
            let mut content = Vec::new();
            decompressed(&bytes[..]).unwrap().read_to_end(&mut content).unwrap();
            assert_eq!(content, wanted);
        }
        assert!(decompressed(&b"BZh91AY"[..]).is_err());
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let content: Vec<u8> = (0..5000_u32).map(|n| (n * n % 251) as u8).collect();
        for whole in [gzip(&content), zstd(&content)] {
            assert!(whole.len() > 100);
            let mut content = Vec::new();
            let cut = &whole[..whole.len() - 9];
            let read = decompressed(cut).and_then(|mut r| r.read_to_end(&mut content));
            assert!(read.is_err());
        }
    }

    #[test]
    fn a_bomb_is_an_error() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let mut bounded = Bounded::new(decompressed(&bomb[..]).unwrap(), 1000);
        assert_eq!(
            io::copy(&mut bounded, &mut io::sink()).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        let mut all = Bounded::new(decompressed(&bomb[..]).unwrap(), 1 << 20);
        assert_eq!(io::copy(&mut all, &mut io::sink()).unwrap(), 1 << 20);
    }

    #[test]
    fn the_digest_is_of_all_that_is_there() {
        let mut hashed = Hashed::new(&b"content"[..]);
        hashed.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(hashed.finish().unwrap(), Digest::of(b"content"));
    }
}
