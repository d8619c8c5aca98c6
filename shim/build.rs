//! Links the unwinder into the doors.
//!
//! Rust's standard library asks the linker for `libgcc_s`, and the shared one costs each start of a
//! door an open, four mappings and its relocations: about a tenth of what the wrapper adds to a call
//! that it passes through (`integration/bench wrapper`). The compiler's own static parts do the same.
//! `-static-libgcc` would say so, but not to a linker that is given `-lgcc_s` by name; so a script of
//! that name is found first, and names them.

use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV")? != "gnu" {
        return Ok(());
    }
    let folder = env::var("OUT_DIR")?;
    fs::write(Path::new(&folder).join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
    println!("cargo:rustc-link-search=native={folder}");
    Ok(())
}
