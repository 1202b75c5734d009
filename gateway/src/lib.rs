//! The front of the house: configuration, the Misskey API, streaming, pages, and the binary `kiroku`.
//!
//! Invariants kept here:
//! - no business rule: a call is parsed, admitted, handed to `commands` or to a query, and presented;
//! - presenters are not async, and take the content of a note only from `World::see`, so the policy
//!   can't be gone round;
//! - a write is answered when every read model shows it ([`app::App::shown`]);
//! - every queue, page, body and cache has a bound, as a named constant;
//! - causes of failures are logged once, here, and never sent.
//!
//! To add an endpoint: see [`api`]. Settings: [`config::KEYS`]. What runs, and in which order it comes up
//! and goes down: [`platform`] and [`app`].

pub mod access;
pub mod accounts;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod drive;
pub mod erase;
pub mod feed;
pub mod fetch;
mod follower;
pub mod jobs;
pub mod json;
pub mod letters;
pub mod mail;
pub mod metered;
pub mod misskey;
pub mod names;
pub mod neighbours;
pub mod ops;
pub mod pages;
pub mod platform;
pub mod presence;
pub mod preview;
pub mod streaming;
pub mod system;
mod timekeeper;
pub mod webauthn;
pub mod webpush;
pub mod wellknown;
