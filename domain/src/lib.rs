//! What can happen on a Kiroku server, and the rules by which it does: events, folded states,
//! decisions, the policy of who may see what, and the ports to the outside.
//!
//! Invariants kept here:
//! - nothing is async except the ports, nothing does IO, reads a clock or draws a random number;
//! - only [`policy`] makes a [`policy::Visible`];
//! - a released event payload never changes its meaning ([`event`]);
//! - a person or a note may be remote: `host`, `uri` and the audience are part of the facts.
//!
//! To add a feature: one file here with its payloads (and their lines in [`event`]), its state with
//! `apply`, its decisions (`Result<Vec<Event>, Cannot…>`, a closed enum) and given/when/then tests;
//! then the file of the same name in each other crate.

pub mod achievement;
pub mod ad;
pub mod announcement;
pub mod antenna;
pub mod block;
pub mod channel;
pub mod clip;
pub mod decoration;
mod defined;
pub mod draft;
pub mod drive;
pub mod emoji;
pub mod event;
pub mod export;
pub mod favorite;
pub mod follow;
pub mod ids;
pub mod instance;
pub mod invitation;
pub mod list;
pub mod log;
pub mod memo;
pub mod mfm;
pub mod moderation;
pub mod mute;
pub mod note;
pub mod notification;
pub mod pin;
pub mod policy;
pub mod poll;
pub mod reaction;
pub mod registry;
pub mod remote;
pub mod report;
pub mod role;
pub mod text;
pub mod upcast;
pub mod user;
pub mod words;
pub mod work;

pub use event::Event;
pub use ids::*;

/// A state folded from the events of one stream.
pub trait Fold: Default + Send + Sync + 'static {
    /// Takes one event in; kinds that the state does not know are passed over.
    fn apply(&mut self, event: &Event);

    /// The state after the events.
    fn of<'e>(events: impl IntoIterator<Item = &'e Event>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply(event);
        }
        state
    }
}
