//! Values that many worlds share, each with how it is written for clients.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// A value that is shared and not copied, and beside it the text that shows it: written by whoever shows it first,
/// there for all who share the value, gone with it and whenever it changes.
#[derive(Debug, Clone)]
pub struct Shown<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    value: T,
    text: OnceLock<Box<str>>,
}

impl<T> Shown<T> {
    /// The text that shows the value. It may depend on nothing but the value and what never changes.
    pub fn text(&self, write: impl FnOnce(&T) -> String) -> &str {
        self.0.text.get_or_init(|| write(&self.0.value).into_boxed_str())
    }
}

impl<T> From<T> for Shown<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value.into()))
    }
}

impl<T> From<T> for Inner<T> {
    fn from(value: T) -> Self {
        Self { value, text: OnceLock::new() }
    }
}

/// A copy is about to change.
impl<T: Clone> Clone for Inner<T> {
    fn clone(&self) -> Self {
        self.value.clone().into()
    }
}

impl<T> Deref for Shown<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: Clone> DerefMut for Shown<T> {
    /// Where it is shared, a copy of it is changed.
    fn deref_mut(&mut self) -> &mut T {
        let inner = Arc::make_mut(&mut self.0);
        inner.text.take();
        &mut inner.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_written_once_for_all_and_anew_when_the_value_changes() {
        let write = |n: &u8| format!("<{n}>");
        let mut one = Shown::from(1);
        let other = one.clone();
        assert_eq!((one.text(write), other.text(|_| unreachable!())), ("<1>", "<1>"));
        *one = 2;
        assert_eq!((one.text(write), other.text(write)), ("<2>", "<1>"));
        *one = 3;
        assert_eq!(one.text(write), "<3>");
    }
}
