#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::rtmp::amf0::fuzz::amf0(data));
