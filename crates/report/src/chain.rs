//! The chain ID of layers (OCI image specification, `config.md`, "Layer ChainID").

use portcullis_types::Digest;
use sha2::{Digest as _, Sha256};

/// The chain ID of these layers, given by their diff IDs from the lowest up. `None` without layers.
///
/// `ChainID(L0|...|Ln) = SHA256(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))`, over the digests' text.
pub fn chain_id(diff_ids: &[Digest]) -> Option<Digest> {
    let (first, rest) = diff_ids.split_first()?;
    let chain = rest.iter().fold(first.clone(), |chain, diff_id| {
        Digest::sha256(Sha256::digest(format!("{chain} {diff_id}")).into())
    });
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(hex: &str) -> Digest {
        format!("sha256:{hex}").parse().unwrap()
    }

    #[test]
    fn no_layers_have_no_chain() {
        assert_eq!(chain_id(&[]), None);
    }

    #[test]
    fn one_layer_is_its_own_chain() {
        let layer = digest(&"1".repeat(64));
        assert_eq!(chain_id(std::slice::from_ref(&layer)), Some(layer));
    }

    /// Wanted values from coreutils' `sha256sum`, over the digests of `a`, `b` and `c`.
    #[test]
    fn each_layer_is_hashed_onto_the_chain_below() {
        let layers = ["a", "b", "c"].map(|layer| Digest::sha256(Sha256::digest(layer).into()));
        let two = digest("51c0c8ace48498d6f5fee6b0592cc06f2da0f3cbe09c5a34a97dce85c3889676");
        let three = digest("2fce7f8ce91bcf0a1428b36e1024639fdbd9469eea762dba98aa749631885106");
        assert_eq!(chain_id(&layers[..2]), Some(two));
        assert_eq!(chain_id(&layers), Some(three));
    }
}
