//! Images that are looked for so that their layers can be read.

use super::*;
use crate::storage::stored::{StorageImageError, find, list};

fn look(store: &mut Store, image: &str) -> Result<super::super::StorageImage, StorageImageError> {
    store.write();
    find(&[store.path("graph")], image, Instant::now() + Duration::from_secs(30))
}

/// A store with an image of two layers.
fn store() -> (Store, Image) {
    let mut store = Store::new();
    let image = store.image("graph", APP, &["one", "two"]);
    (store, image)
}

#[test]
fn an_image_is_found_by_its_names_and_its_id() {
    let (mut store, image) = store();
    let folders: Vec<PathBuf> = image
        .layers
        .iter()
        .map(|layer| store.path("graph").join("overlay").join(layer).join("diff"))
        .collect();
    for name in [APP, "app:1", &image.id, &format!("sha256:{}", image.id)] {
        let found = look(&mut store, name).unwrap();
        assert_eq!(found.names, [APP], "{name}");
        assert_eq!(Digest::of(&found.config), image.config, "{name}");
        assert_eq!(found.layers, folders, "{name}");
    }
    let error = look(&mut store, "app:2").unwrap_err().to_string();
    assert!(error.contains("has no image \"app:2\""), "{error}");
}

#[test]
fn all_images_are_listed_that_are_whole_and_of_this_platform() {
    let (mut store, one) = store();
    let two = store.image("graph", "registry.example.com/two:1", &["one"]);
    let spoiled = store.image("graph", "registry.example.com/spoiled:1", &["three"]);
    store.change_data(&spoiled.id, &format!("sha256:{}", spoiled.id), |text| format!("{text} "));
    store.write();
    let roots = [store.path("graph"), store.path("not there")];
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut wanted = [&one, &two].map(|image| image.config.clone());
    wanted.sort();
    let found = list(&roots, "linux/amd64", deadline).unwrap();
    assert_eq!(found.iter().map(|had| had.config.clone()).collect::<Vec<_>>(), wanted);
    assert!(found.iter().all(|had| had.asked == had.config));
    assert!(list(&roots, "linux/amd64", Instant::now()).is_err());
    assert_eq!(list(&roots[1..], "linux/amd64", deadline).unwrap(), []);
    std::fs::write(store.path("graph").join("overlay-images/images.json"), "[").unwrap();
    assert!(list(&roots, "linux/amd64", deadline).is_err());
}

#[test]
fn layers_that_do_not_fit_are_refused() {
    type Spoil = fn(&mut Store, &Image);
    let cases: &[(Spoil, &str)] = &[
        (
            |store, image| {
                store.layer("graph", image.top())["diff-digest"] = json!(Digest::of(b"other"));
            },
            "has another diff ID",
        ),
        (
            |store, image| {
                store.layers("graph").retain(|layer| layer["id"] != *image.layers[0]);
            },
            "has no record",
        ),
        (
            |store, image| {
                store.layer("graph", &image.layers[1]).as_object_mut().unwrap().remove("parent");
            },
            "1 of them are not there",
        ),
        (
            |store, image| {
                let top = store.path("graph").join("overlay").join(image.top());
                store.write();
                store.is_written = true;
                std::fs::remove_dir(top.join("diff")).unwrap();
            },
            "is not a folder",
        ),
        (
            |store, image| {
                let top = store.path("graph").join("overlay").join(image.top());
                std::fs::create_dir_all(top.join("composefs-data")).unwrap();
            },
            "kept with composefs",
        ),
        (
            |store, image| {
                // It would never end.
                store.layer("graph", &image.layers[0])["parent"] = json!(image.top());
            },
            "there are more than it names",
        ),
    ];
    for (spoil, wanted) in cases {
        let (mut store, image) = store();
        spoil(&mut store, &image);
        let error = look(&mut store, APP).unwrap_err();
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    }
}
