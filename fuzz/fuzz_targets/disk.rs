#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| netloft_fuzz::disk(bytes));
