//! The binary `merpati`: everything is in the library.

/// Mail is taken by one thread and let go by another, for which glibc locks a whole arena.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    merpati_relay::cli::main()
}
