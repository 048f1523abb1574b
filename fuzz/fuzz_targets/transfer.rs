//! libFuzzer over the target `transfer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::transfer(octets));
