//! libFuzzer over the target `xclient`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::xclient(octets));
