//! Prints the packages that files tell of: `cargo run --example packages -- FILE…`.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::fs::File;
use std::io::{self, BufReader, Read as _};

use portcullis_languages::{HEAD, Limits, read, reader_of};

fn main() -> io::Result<()> {
    for path in env::args().skip(1) {
        let file = File::open(&path)?;
        let size = file.metadata()?.len();
        let mut head = Vec::new();
        (&file).take(HEAD as u64).read_to_end(&mut head)?;
        let Some(reader) = reader_of(&path, &head) else { continue };
        println!("{path}: {reader:?}");
        match read(reader, &path, BufReader::new(file), size, &Limits::default()) {
            Ok(found) => {
                for package in &found.packages {
                    let inner = package.inner.as_deref().unwrap_or_default();
                    let license = package.license.as_deref().unwrap_or_default();
                    let dev = if package.is_dev { "dev" } else { "" };
                    println!("  {} {inner} {license} {dev}", package.purl());
                }
                for unread in &found.unread {
                    println!("  unread: {}: {:?}", unread.inner, unread.error);
                }
            }
            Err(error) => println!("  error: {error:?}"),
        }
    }
    Ok(())
}
