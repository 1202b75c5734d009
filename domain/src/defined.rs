//! What those who run the server define, change and take back: advertisements, announcements, decorations and
//! roles. Each has a stream of its own; what it is in detail says its own file.

use crate::Event;

/// One such thing, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined<D> {
    /// None before it is made and after it was deleted.
    pub definition: Option<D>,
    pub deleted: bool,
}

impl<D> Default for Defined<D> {
    fn default() -> Self {
        Self { definition: None, deleted: false }
    }
}

impl<D> Defined<D> {
    pub(crate) fn define(&mut self, definition: D) {
        self.definition = Some(definition);
    }

    pub(crate) fn end(&mut self) {
        *self = Self { definition: None, deleted: true };
    }
}

impl<D: PartialEq> Defined<D> {
    /// Decides a new one; what was made already is not made again.
    pub(crate) fn create<E, R>(
        &self,
        definition: impl FnOnce() -> Result<D, R>,
        created: impl FnOnce(D) -> E,
    ) -> Result<Vec<Event>, R>
    where
        Event: From<E>,
    {
        if self.definition.is_some() || self.deleted {
            return Ok(Vec::new());
        }
        Ok(vec![created(definition()?).into()])
    }

    /// Decides a change; what is then as before is no event.
    pub(crate) fn change<E, R>(
        &self,
        missing: R,
        definition: impl FnOnce(&D) -> Result<D, R>,
        changed: impl FnOnce(D) -> E,
    ) -> Result<Vec<Event>, R>
    where
        Event: From<E>,
    {
        let before = self.definition.as_ref().ok_or(missing)?;
        let definition = definition(before)?;
        Ok(if definition == *before { Vec::new() } else { vec![changed(definition).into()] })
    }

    /// Decides that it is no more.
    pub(crate) fn delete<E, R>(&self, missing: R, deleted: impl FnOnce(&D) -> E) -> Result<Vec<Event>, R>
    where
        Event: From<E>,
    {
        Ok(vec![deleted(self.definition.as_ref().ok_or(missing)?).into()])
    }
}
