//! Importers: other scanners' reports become scan reports of ours.
