//! The integration tests, as one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod access;
mod account;
mod ad;
mod announcement;
mod antenna;
mod bad_input;
mod block;
mod browser;
mod channel;
mod chart;
mod cli;
mod clients;
mod decoration;
mod deliver;
mod draft;
mod drive;
mod emoji;
mod emoji_archive;
mod erase;
mod eventstore;
#[path = "../eventstore_double/mod.rs"]
mod eventstore_double;
mod export;
mod first_day;
mod golden;
mod harness;
mod invitation;
mod keeping;
mod list;
mod mail;
mod moderation;
mod mute;
mod nats;
mod notification;
mod oauth;
mod object_storage;
mod openapi;
mod pages;
mod passkey;
mod privacy;
mod process;
mod processes;
mod replay;
mod role;
mod s3_double;
mod search;
mod second_factor;
mod streaming;
mod tidy;
mod wellknown;
mod work;

/// The top of the repository.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A Python that has what the tests in that language need; `scripts/test` makes one.
fn python() -> std::path::PathBuf {
    let given = gateway::config::Given::from_process().environment.get("KIROKU_TEST_PYTHON").map(Into::into);
    let python = given.unwrap_or_else(|| root().join("tests/.venv/bin/python"));
    assert!(python.exists(), "{} is not there: use scripts/test", python.display());
    python
}
