#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::control::auth::jwt::fuzz::jwt(data));
