#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::moq::fuzz::varint(data));
