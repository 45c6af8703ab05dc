#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (fuzz_targets::target("lmtp_client").run)(input));
