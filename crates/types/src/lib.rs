//! The words of Portcullis as types: digests, references, findings, verdicts, requests, decisions.
