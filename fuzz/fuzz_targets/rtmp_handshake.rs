#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::rtmp::handshake::fuzz::rtmp_handshake(data));
