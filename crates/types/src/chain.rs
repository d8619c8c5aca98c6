//! Chain IDs: one digest for a stack of layers (OCI image-spec `config.md`, "Layer ChainID").

use crate::Digest;

/// The chain ID of layers, given their diff IDs from the lowest up; `None` for no layers.
///
/// containerd names an unpacked image's snapshot by it, so it ties an image configuration to the
/// files that a container gets.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (lowest, above) = diff_ids.split_first()?;
    let chain = above
        .iter()
        .fold(lowest.clone(), |chain, diff_id| Digest::of(format!("{chain} {diff_id}").as_bytes()));
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        text.parse().unwrap()
    }

    /// `ChainID(A|B|C) = Digest(Digest(A + " " + B) + " " + C)`, as the specification spells it
    /// out; the wanted values come from `printf '%s %s' … | sha256sum`.
    #[test]
    fn the_chain_id_of_the_specification() {
        let a = digest("sha256:1f2e3d4c5b6a798081929394a5b6c7d8e9f00112233445566778899aabbccdde");
        let b = digest("sha256:9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0");
        let c = digest("sha256:3e744b9dc39389baf0c5a0660589b8402f3dbb49b89b3e75f2c9355852a3c677");
        assert_eq!(chain_id(&[]), None);
        assert_eq!(chain_id(std::slice::from_ref(&a)), Some(a.clone()));
        let ab = digest("sha256:25a70d1fdea201fe8f7e07942a256c2a017163c1a4159e594734be6abfa67b81");
        assert_eq!(chain_id(&[a.clone(), b.clone()]), Some(ab.clone()));
        let abc = digest("sha256:18ced0cf894cdb41d6e60f3b9f1706b6cc6151daf5b3d578d9ca20a3617927f8");
        assert_eq!(chain_id(&[a, b, c.clone()]), Some(abc.clone()));
        assert_eq!(chain_id(&[ab, c]), Some(abc));
    }

    #[test]
    fn the_order_of_layers_counts() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_ne!(chain_id(&[a.clone(), b.clone()]), chain_id(&[b, a]));
    }
}
