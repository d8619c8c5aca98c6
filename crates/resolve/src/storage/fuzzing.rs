//! What fuzzers ask of the records of containers/storage.

use super::records::{self, Layers, Wanted, is_id};

/// Reads a file of records in each of the ways in which one is read, for the thing with this id. Says
/// whether one of them found it.
pub(crate) fn records(json: &[u8], id: &str) -> bool {
    let container = records::container(json, Wanted::Id(id)).ok().flatten();
    let image = records::image(json, id).ok().flatten();
    let mut layers = Layers::new();
    let are_layers = records::add_layers(json, &mut layers).is_ok();
    if let Some(container) = &container {
        assert_eq!(container.id, id);
        assert!(is_id(&container.layer), "{container:?}");
        assert!(container.image.is_empty() || is_id(&container.image), "{container:?}");
    }
    if container.is_some() || image.is_some() {
        // A plain reader finds it once and no more.
        let plain: Vec<serde_json::Value> =
            serde_json::from_slice(json).expect("what is read is a list");
        assert_eq!(plain.iter().filter(|record| record["id"] == id).count(), 1);
    }
    if let Some(image) = &image {
        assert!(image.names.len() <= 1024 && image.big_data.len() <= 1024);
    }
    for layer in layers.values() {
        // An error or a digest: it must not panic.
        let _diff = layer.diff_id();
    }
    container.is_some() || image.is_some() || (are_layers && layers.contains_key(id))
}
