//! Hands the console's bundle to the compiler, or empty files when it isn't built, so that a plain
//! `cargo build` needs no npm. It never runs npm itself: `make` does.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let dist = Path::new("src/console/app/dist");
    println!("cargo::rerun-if-changed={}", dist.display());
    let out = env::var_os("OUT_DIR").map(|dir| Path::new(&dir).join("console")).ok_or(io::ErrorKind::NotFound)?;
    fs::create_dir_all(&out)?;
    for name in ["app.js", "app.css"] {
        let bundled = fs::read(dist.join(name)).unwrap_or_default();
        fs::write(out.join(name), bundled)?;
    }
    Ok(())
}
