//! libFuzzer over the target `stuffing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::stuffing(octets));
