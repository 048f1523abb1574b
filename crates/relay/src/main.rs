//! The binary `merpati`: everything is in the library.

fn main() -> std::process::ExitCode {
    merpati_relay::cli::main()
}
