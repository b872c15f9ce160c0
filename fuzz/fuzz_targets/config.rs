#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::config::fuzz::config(data));
