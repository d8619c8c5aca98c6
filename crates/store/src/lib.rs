//! The verdict store: what scanners found about an image, by digest.
