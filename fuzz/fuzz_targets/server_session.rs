//! libFuzzer over the target `server_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::server_session(octets));
