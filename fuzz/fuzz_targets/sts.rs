//! libFuzzer over the target `sts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::sts(octets));
