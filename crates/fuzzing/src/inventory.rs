//! What the scanner's process says, and what is kept of it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use portcullis_inventory::protocol::{Asked, Job, Said, receive, send};
use portcullis_inventory::{Distribution, FileTable, Kind, Merged, TableBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pieces::Pieces;
use crate::text::{printable, told};

/// A table of paths, as it is stored.
///
/// Accepted: paths are sorted, each is found, by itself and from any other on, and what is below a
/// folder is; a table that is built of them is the same, and is read back.
pub fn file_table(data: &[u8]) -> bool {
    let mut message = vec![];
    // As postcard has bytes: their number, then the bytes.
    let mut length = data.len();
    while length >= 0x80 {
        message.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(data);
    let table: FileTable = match receive(&mut framed(&message).as_slice()) {
        Ok(table) => table.expect("there is a message"),
        Err(error) => {
            told(&error);
            return false;
        }
    };
    let all: Vec<(String, Kind)> = table.iter().collect();
    assert_eq!((table.len(), table.is_empty()), (all.len(), all.is_empty()));
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "not in order: {all:?}");
    let mut each = Vec::new();
    table.each(|path, kind| each.push((path.to_owned(), kind)));
    assert_eq!(each, all);
    let known: BTreeMap<&str, &Kind> = all.iter().map(|(path, kind)| (&**path, kind)).collect();
    for (path, _) in all.iter().rev().take(64) {
        let near = [path.clone(), format!("{path}/"), path.chars().skip(1).collect()];
        for asked in near.iter().map(String::as_str) {
            assert_eq!(table.get(asked).as_ref(), known.get(asked).copied(), "{asked}");
            let wanted = known.range(asked..).next().map(|(path, _)| (*path).to_owned());
            assert_eq!(table.from(asked).next().map(|(path, _)| path), wanted, "{asked}");
            let below = format!("{asked}/");
            let wanted = known.range(&*below..).next().is_some_and(|(p, _)| p.starts_with(&below));
            assert_eq!(table.has_below(asked), wanted, "{asked}");
        }
    }
    let mut builder = TableBuilder::default();
    // In another order, and the first one twice.
    for (path, kind) in all
        .first()
        .map(|(path, _)| (path, &Kind::Other))
        .into_iter()
        .chain(all.iter().rev().map(|(path, kind)| (path, kind)))
    {
        builder.add(path, kind.clone()).expect("there were as many before");
    }
    let built = builder.finish();
    assert!(built.iter().eq(all), "another table is built of it");
    again(&built);
    true
}

/// A message of the scanner or to it; the first byte tells which.
///
/// Accepted: sent anew it is the same, byte by byte. A layer in it can be laid upon itself, and what
/// then is in the image is no more than twice of it.
pub fn scanner_messages(data: &[u8]) -> bool {
    let Some((kind, message)) = data.split_first() else { return false };
    let message = framed(message);
    match kind % 3 {
        0 => match heard::<Said>(&message) {
            Some(Said::Layer { layer, .. }) => {
                let items: usize = layer.items.values().map(Vec::len).sum();
                let paths = layer.table.len();
                let merged = Merged::new([layer.clone(), layer]);
                assert!(merged.paths(|_| true).len() <= 2 * paths);
                // A database that links lead elsewhere from is told of, and there are ten.
                assert!(merged.items().len() <= 2 * items + 10);
                if let Some(distribution) = Distribution::of(&merged) {
                    assert!(!distribution.word.is_empty());
                    let _ = distribution.name();
                }
                true
            }
            Some(Said::Image { image, .. }) => {
                let _ = (image.settings(), image.facts());
                true
            }
            said => said.is_some(),
        },
        1 => heard::<Job>(&message).is_some(),
        _ => heard::<Asked>(&message).is_some(),
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("inputs are short");
    [&length.to_le_bytes(), message].concat()
}

fn heard<M: DeserializeOwned + Serialize + PartialEq + Debug>(message: &[u8]) -> Option<M> {
    let cut = receive::<M>(&mut Pieces::new(message, 1));
    match receive::<M>(&mut &*message) {
        Ok(heard) => {
            assert_eq!(cut.expect("it was read before"), heard);
            let heard = heard.expect("there is a message");
            again(&heard);
            Some(heard)
        }
        Err(error) => {
            assert!(cut.is_err());
            printable("an error", &portcullis_types::with_causes(&error), 4096);
            None
        }
    }
}

/// What is sent is heard as it was, and sent anew the same.
fn again<M: DeserializeOwned + Serialize + PartialEq + Debug>(message: &M) {
    let mut pipe = Vec::new();
    send(&mut pipe, message).expect("it can be sent");
    let mut rest = &*pipe;
    let again: M = receive(&mut rest).expect("it is heard").expect("there is a message");
    assert!(rest.is_empty(), "{} bytes behind a message", rest.len());
    assert_eq!(again, *message);
    let mut second = Vec::new();
    send(&mut second, &again).expect("it can be sent");
    assert!(second == pipe, "sent anew it is another message");
}
