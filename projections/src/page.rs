//! Paging by id, as Misskey does it: the id of the row, both bounds exclusive.

use uuid::Uuid;

/// The most items of one page.
pub const MAX_ITEMS: u16 = 100;

/// How many at most ($4), in statements that take longer to plan than to do: what the database expects of them does
/// not depend on the number then, and it keeps the plan.
pub(crate) const LIMIT: &str = "(select $4::bigint)";

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only what is newer than this id.
    pub since: Option<Uuid>,
    /// Only what is older than this id.
    pub until: Option<Uuid>,
    /// Start at the old end, as Misskey does where only `since` is given.
    pub oldest_first: bool,
    /// Items, at most [`MAX_ITEMS`].
    pub limit: u16,
}

impl Page {
    /// The newest items.
    pub fn newest(limit: u16) -> Self {
        Self { since: None, until: None, oldest_first: false, limit }
    }

    /// The same, with so many items at most.
    pub fn at_most(self, items: usize) -> Self {
        Self { limit: u16::try_from(items).map_or(self.limit, |items| items.min(self.limit)), ..self }
    }

    /// The lower bound, exclusive.
    pub fn since(&self) -> Uuid {
        self.since.unwrap_or(Uuid::nil())
    }

    /// The upper bound, exclusive.
    pub fn until(&self) -> Uuid {
        self.until.unwrap_or(Uuid::max())
    }

    /// How many at most, for `limit`.
    pub fn limit(&self) -> i64 {
        i64::from(self.limit.min(MAX_ITEMS))
    }

    /// `asc` or `desc`, for `order by`.
    pub fn order(&self) -> &'static str {
        if self.oldest_first { "asc" } else { "desc" }
    }
}
