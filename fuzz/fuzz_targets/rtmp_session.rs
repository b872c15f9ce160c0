#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::rtmp::server::fuzz::rtmp_session(data));
