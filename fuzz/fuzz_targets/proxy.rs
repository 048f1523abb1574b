//! libFuzzer over the target `proxy`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::proxy(octets));
