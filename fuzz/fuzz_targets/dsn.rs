//! libFuzzer over the target `dsn`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::dsn(octets));
