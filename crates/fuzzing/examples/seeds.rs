//! Writes the seeds of the formats that only our own code writes: verdicts and ledgers. Run it
//! after such a format has changed: `cargo run -p portcullis-fuzzing --example seeds -- fuzz/corpus`.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use portcullis_audit::Ledger;
use portcullis_store::{FileStore, VerdictStore, fuzzing, suite};
use portcullis_types::Event;

fn main() -> Result<(), Box<dyn Error>> {
    let corpus: PathBuf = std::env::args_os().nth(1).ok_or("name the folder of corpora")?.into();
    verdicts(&corpus.join("verdict"))?;
    ledgers(&corpus.join("ledger"))
}

fn verdicts(to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for findings in [0, 1, 7] {
        let folder = tempfile::tempdir()?;
        let store = FileStore::open(folder.path());
        let image = suite::image('a');
        store.absorb(&image, suite::report("trivy", 10, findings + 1))?;
        store.absorb(&image, suite::report("trivy", 20, findings))?;
        store.absorb(&image, suite::report("grype", 11, findings / 2))?;
        let hex = image.config.hex();
        let file = fs::read(folder.path().join("sha256").join(&hex[..2]).join(hex))?;
        fs::write(to.join(format!("file-{findings}")), &file)?;
        let sections = fuzzing::unframed(&file).ok_or("a small verdict has short sections")?;
        fs::write(to.join(format!("sections-{findings}")), sections)?;
    }
    Ok(())
}

/// Files one behind the other, as `portcullis_fuzzing::ledger` takes them.
fn ledgers(to: &Path) -> Result<(), Box<dyn Error>> {
    const BETWEEN: &[u8] = &[0x1e];
    fs::create_dir_all(to)?;
    let folder = tempfile::tempdir()?;
    let ledger = Ledger::new(folder.path().to_owned(), 1 << 20);
    let read = |name: &str| fs::read(folder.path().join(name));
    ledger.append(&event("1", "2026-11-24T12:00:00Z")?)?;
    ledger.append(&event("2", "2026-11-24T12:00:01Z")?)?;
    let (older, older_head) = (read("events.jsonl")?, read("head")?);
    fs::write(to.join("two"), [&*older, BETWEEN, BETWEEN, &older_head].concat())?;
    fs::write(to.join("cut"), [&older[..older.len() - 9], BETWEEN, BETWEEN, &older_head].concat())?;
    fs::rename(ledger.path(), folder.path().join("events-1.jsonl"))?;
    // A clock that was set back.
    ledger.append(&event("3", "2026-11-20T12:00:00Z")?)?;
    fs::write(
        to.join("moved"),
        [&*read("events.jsonl")?, BETWEEN, &older, BETWEEN, &read("head")?].concat(),
    )?;
    fs::write(to.join("torn"), [&older[..], b"{\"torn", BETWEEN, BETWEEN].concat())?;
    let unchained = serde_json::to_vec(&event("0", "2026-11-24T12:00:00Z")?)?;
    fs::write(to.join("unchained"), [&*unchained, b"\nnothing\n\n"].concat())?;
    Ok(())
}

fn event(id: &str, time: &str) -> Result<Event, serde_json::Error> {
    serde_json::from_value(serde_json::json!({
        "id": id, "time": time, "kind": "decision", "action": "block", "message": "blocked",
        "image": { "surety": "unknown" },
        "request": { "engine": "containerd", "node": "n", "containerId": id, "kind": "container" },
    }))
}
