//! `cargo run -p merpati-xtask -- tidy | docs`: see [`merpati_xtask`].

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use merpati_xtask::{house, reference};

fn main() -> Result<ExitCode> {
    let chore = std::env::args().nth(1);
    let mut out = io::stdout().lock();
    match chore.as_deref() {
        Some("docs") => {
            for path in house::write(&house::root(), &reference::pages())? {
                writeln!(out, "wrote {path}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Some("tidy") => {
            let findings = house::findings(&house::root(), &reference::pages())?;
            for finding in &findings {
                writeln!(out, "{finding}")?;
            }
            match findings.len() {
                0 => writeln!(out, "the house is tidy")?,
                n => writeln!(out, "{n} findings")?,
            }
            Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Some(_) | None => {
            writeln!(io::stderr(), "usage: cargo run -p merpati-xtask -- tidy | docs")?;
            Ok(ExitCode::from(2))
        }
    }
}
