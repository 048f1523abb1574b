//! libFuzzer over the target `content`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::content(octets));
