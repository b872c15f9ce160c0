#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::net::outbound::fuzz::outbound(data));
