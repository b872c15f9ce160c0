#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::control::auth::signed_url::fuzz::signed_url(data));
