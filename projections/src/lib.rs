//! What readers see: tables folded from the event log, and the queries over them.
//!
//! A [`Projector`] owns its tables in the schema `read` and is the only one that writes them; the
//! runtime ([`Projections`]) feeds it events in order and moves its checkpoint in the same transaction.
//! A query gives ids and what paging needs; [`hydrate`] loads everything that a page of ids shows in a
//! fixed number of rounds into a [`World`]; what of it a viewer may see is decided there by
//! [`domain::policy`], never by SQL, which only narrows the candidates. A [`Cache`] keeps what pages show in memory,
//! and the newest ids of timelines ([`timeline`]); what it gives is never older than what the tables would.
//!
//! Invariants kept here:
//! - only projectors write read tables, each its own; nothing here appends to the log or knows HTTP;
//! - any read table can be emptied and filled again from the log, with the same rows, however the log
//!   is cut into batches: ids and times come from events, never from a clock or a generator. [`rebuild`]
//!   does so beside the live tables, and compares;
//! - who was erased leaves no rows, and no row that is left tells of them ([`erased`]);
//! - a page of a hundred costs as many statements as a page of one, and no page skips rows to get to
//!   its place, except where Misskey's API asks for an offset;
//! - each batch, page, wait and retry has a bound.
//!
//! To add a read model: a migration `…_read_{name}.sql`, a file of the feature's name with its
//! `Projection` and its queries, a line in [`projectors`], and in [`World`] and [`hydrate`] what pages
//! show of it. Rows of people go when it hears `user.erased` of them. Raise `version` when the same events
//! shall give other rows.

use std::sync::Arc;

pub mod achievement;
pub mod acquaintance;
pub mod ad;
pub mod announcement;
pub mod antenna;
mod backoff;
pub mod block;
mod cache;
pub mod channel;
pub mod chart;
pub mod clip;
pub mod decoration;
pub mod draft;
pub mod drive;
pub mod emoji;
pub mod erased;
pub mod favorite;
pub mod featured;
pub mod follow;
mod followed;
pub mod hashtag;
pub mod hydrate;
pub mod instance;
pub mod invitation;
mod lease;
pub mod list;
pub mod memo;
pub mod moderation;
pub mod mute;
pub mod note;
pub mod notification;
pub mod page;
mod pairs;
pub mod pin;
pub mod poll;
pub mod reaction;
pub mod rebuild;
pub mod registry;
pub mod relation;
pub mod role;
pub mod runtime;
pub mod search;
pub mod shown;
mod sql;
mod tail;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod user;
pub mod work;
pub mod world;

pub use cache::Cache;
pub use followed::follow_log;
pub use hydrate::{Wanted, hydrate};
pub use page::Page;
pub use runtime::{
    Lagging, Mode, ProjectError, Projections, Projector, Standing, Status, Unsettled, is_passing,
};
pub use tail::Head;
pub use world::World;

/// Every read model of this crate.
pub fn projectors() -> Vec<Arc<dyn Projector>> {
    vec![
        Arc::new(instance::Projection),
        Arc::new(user::Projection),
        Arc::new(follow::Projection),
        Arc::new(block::Projection),
        Arc::new(mute::Projection),
        Arc::new(memo::Projection),
        Arc::new(note::Projection),
        Arc::new(reaction::Projection),
        Arc::new(poll::Projection),
        Arc::new(role::Projection),
        Arc::new(ad::Projection),
        Arc::new(decoration::Projection),
        Arc::new(emoji::Projection),
        Arc::new(moderation::Projection),
        Arc::new(announcement::Projection),
        Arc::new(invitation::Projection),
        Arc::new(notification::Projection),
        Arc::new(chart::Projection),
        Arc::new(list::Projection),
        Arc::new(drive::Projection),
        Arc::new(antenna::Projection::default()),
        Arc::new(channel::Projection),
        Arc::new(favorite::Projection),
        Arc::new(clip::Projection),
        Arc::new(pin::Projection),
        Arc::new(registry::Projection),
        Arc::new(achievement::Projection),
        Arc::new(work::Projection),
        Arc::new(search::Projection),
        Arc::new(hashtag::Projection),
        Arc::new(featured::Projection),
        Arc::new(draft::Projection),
    ]
}
