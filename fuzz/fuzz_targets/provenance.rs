//! libFuzzer over the target `provenance`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::provenance(octets));
