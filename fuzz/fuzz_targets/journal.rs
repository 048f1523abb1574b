//! libFuzzer over the target `journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::journal(octets));
