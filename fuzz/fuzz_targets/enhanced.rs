#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| hawker::proto::flv::tag::fuzz::enhanced(data));
