//! The integration tests, as one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod account;
mod bad_input;
mod block;
mod browser;
mod chart;
mod cli;
mod erase;
mod eventstore;
#[path = "../eventstore_double/mod.rs"]
mod eventstore_double;
mod first_day;
mod golden;
mod harness;
mod keeping;
mod list;
mod mail;
mod misskey_js;
mod mute;
mod nats;
mod notification;
mod openapi;
mod pages;
mod passkey;
mod privacy;
mod process;
mod processes;
mod replay;
mod role;
mod search;
mod second_factor;
mod streaming;
mod tidy;
mod wellknown;

/// The top of the repository.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
