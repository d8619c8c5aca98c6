//! Links the doors so that they start quickly.
//!
//! Of what the wrapper adds to a call that it passes through, most is its own start: the dynamic
//! linker's opens, mappings and relocations. So
//!
//! - the unwinder, which Rust's standard library asks for as `libgcc_s`, is linked into both doors:
//!   the compiler's own static parts do the same;
//! - the wrapper has the C library in it, too. It stays independent of its position. It asks
//!   nothing that the C library would load at run time (users, hosts, character sets).
//!
//! `docs/decisions/0006-static-wrapper.md` has the figures. Cargo has no way to say `-static-libgcc`
//! to a linker that is given `-lgcc_s` by name, nor `+crt-static` for one program of a package; so
//! scripts of the libraries' names are found first, and name the static ones.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The program that has the C library in it.
const WRAPPER: &str = "portcullis-runc";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV")? != "gnu" {
        return Ok(());
    }
    let folder = env::var("OUT_DIR")?;
    let script = |below: &str, library: &str, parts: &str| {
        let folder = Path::new(&folder).join(below);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("lib{library}.so")), format!("GROUP ( {parts} )\n"))
    };
    script("doors", "gcc_s", "-lgcc_eh -lgcc")?;
    println!("cargo:rustc-link-search=native={folder}/doors");
    if has_static_libc() {
        script("wrapper", "c", "-l:libc.a -lgcc_eh -lgcc")?;
        script("wrapper", "m", "-l:libm.a")?;
        for argument in [&format!("-L{folder}/wrapper"), "-static-pie"] {
            println!("cargo:rustc-link-arg-bin={WRAPPER}={argument}");
        }
    } else {
        println!(
            "cargo:warning=no static C library: each call of {WRAPPER} takes some 0.3 ms more"
        );
    }
    Ok(())
}

/// Whether the linker that Rust calls finds `libc.a` (Debian: `libc6-dev`), for this machine.
fn has_static_libc() -> bool {
    let here = env::var("HOST").is_ok_and(|host| env::var("TARGET").is_ok_and(|t| t == host));
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let told = Command::new(linker).arg("-print-file-name=libc.a").output();
    // What is not found is told as it was asked for.
    here && told
        .is_ok_and(|told| Path::new(String::from_utf8_lossy(&told.stdout).trim()).is_absolute())
}
