//! `-info`: a raw `containerd.types.RuntimeInfo` on stdout; what runc can do is asked of runc.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use portcullis_settings::Door;

use crate::options::{self, RuntimeOptions};

/// The type of the features' JSON (containerd, `docs/runtime-v2.md`).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the runtime's information; a runtime that does not tell its features has none listed.
///
/// # Errors
/// If stdin cannot be read, the options in it are not understood, or stdout is closed.
pub fn info() -> Result<(), Box<dyn std::error::Error>> {
    let mut stdin = Vec::new();
    if !io::IsTerminal::is_terminal(&io::stdin()) {
        io::stdin().take(1 << 20).read_to_end(&mut stdin)?;
    }
    let any = Any::parse_from_bytes(&stdin).ok().filter(|a| !a.type_url.is_empty());
    let settings = Door::of_this_binary().settings().settings;
    let sent = options::decode(any.as_ref())?;
    let runtime = RuntimeOptions::resolve(sent, &settings.runtime, "", "");
    let information = RuntimeInfo {
        name: "io.containerd.portcullis.v2".to_owned(),
        version: MessageField::some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..RuntimeVersion::default()
        }),
        options: any.into(),
        features: features(&runtime).into(),
        ..RuntimeInfo::default()
    };
    io::stdout().write_all(&information.write_to_bytes()?)?;
    Ok(())
}

fn features(runtime: &RuntimeOptions) -> Option<Any> {
    let output = Command::new(&runtime.binary)
        .arg("features")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let is_object =
        serde_json::from_slice::<serde_json::Map<_, serde_json::Value>>(&output.stdout).is_ok();
    (output.status.success() && is_object).then(|| Any {
        type_url: FEATURES.to_owned(),
        value: output.stdout,
        ..Any::default()
    })
}
