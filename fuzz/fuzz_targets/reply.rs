//! libFuzzer over the target `reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::reply(octets));
