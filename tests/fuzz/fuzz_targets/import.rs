#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| embmap_fuzz::import(input));
