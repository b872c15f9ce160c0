#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::rtmp::chunk::fuzz::rtmp_interleaved(data));
