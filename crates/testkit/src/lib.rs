//! Bundles, images and verdicts for tests; a dev-dependency only.
