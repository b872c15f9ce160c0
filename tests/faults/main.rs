//! What must survive, as tests: each is one fault, seeded by `FAULT_SEED` where chance plays a part.

#[path = "../common/mod.rs"]
mod common;
mod floods;
mod hooks;
mod lifecycle;
mod viewers;
