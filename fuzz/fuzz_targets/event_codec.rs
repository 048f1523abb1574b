//! libFuzzer over the target `event_codec`.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| merpati_fuzz::event_codec(octets));
