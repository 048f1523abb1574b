//! libFuzzer over the target `client_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::client_session(octets));
