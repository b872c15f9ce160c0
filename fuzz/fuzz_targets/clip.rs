#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::cli::fuzz::clip(data));
