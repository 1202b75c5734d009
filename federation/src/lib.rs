//! Other servers: how people and notes that live elsewhere are written down on the wire.
//!
//! For now this is the vocabulary that the rest of the house needs to know that a person or a note
//! can be remote: whose address it is ([`remote`]), when it was written and for whom ([`note`]).
//! Fetching, signatures, the inbox and delivery are not here yet.
//!
//! Invariants kept here:
//! - wire types are parsed once, into the types of `domain`; nothing further in sees them;
//! - what a remote note says of its audience is never read wider than it was meant;
//! - no table is written but this crate's own outbox and cursors, of which there are none yet.
//!
//! To add an activity: one file of the name of its feature, with the wire type, its parsing and its
//! rendering; what it does is a command, the same as for people of this server.

pub mod note;
pub mod remote;
