//! A short list that lives on the stack: a route rarely has more than a handful of targets, and a
//! decision must not allocate for them.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// How many items fit without an allocation.
pub(super) const INLINE: usize = 16;

/// A list of which the first 16 items need no allocation. Longer ones move to the heap.
#[derive(Clone)]
pub struct Few<T> {
    inline: [T; INLINE],
    used: usize,
    /// All items, once there are more than fit.
    spilled: Vec<T>,
}

// === impl Few ===

impl<T: Copy + Default> Few<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self { inline: [T::default(); INLINE], used: 0, spilled: Vec::new() }
    }

    /// Adds an item at the end.
    pub fn push(&mut self, item: T) {
        if let Some(free) = self.inline.get_mut(self.used)
            && self.spilled.is_empty()
        {
            *free = item;
            self.used += 1;
            return;
        }
        if self.spilled.is_empty() {
            self.spilled.extend_from_slice(&self.inline);
        }
        self.spilled.push(item);
    }

    /// Takes the item at `at` out and puts the last one in its place; `None` past the end.
    pub fn swap_remove(&mut self, at: usize) -> Option<T> {
        if !self.spilled.is_empty() {
            // One item always stays in the list on the heap, because an empty one means inline.
            let item = *self.spilled.get(at)?;
            let last = self.spilled.pop()?;
            if let Some(place) = self.spilled.get_mut(at) {
                *place = last;
            }
            if self.spilled.is_empty() {
                self.used = 0;
            }
            return Some(item);
        }
        let item = *self.get(at)?;
        let last = self.used - 1;
        self.inline.swap(at, last);
        self.used = last;
        Some(item)
    }
}

impl<T: Copy + Default> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.spilled.is_empty() {
            self.inline.get(..self.used).unwrap_or_default()
        } else {
            &self.spilled
        }
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.spilled.is_empty() {
            self.inline.get_mut(..self.used).unwrap_or_default()
        } else {
            &mut self.spilled
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Copy + Default> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut few = Self::new();
        items.into_iter().for_each(|item| few.push(item));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_vec(
            items in prop::collection::vec(any::<u16>(), 0..40),
            removals in prop::collection::vec(any::<prop::sample::Index>(), 0..45),
        ) {
            let mut model = items.clone();
            let mut few: Few<u16> = items.into_iter().collect();
            prop_assert_eq!(&few[..], &model[..]);
            for at in removals {
                if model.is_empty() {
                    prop_assert_eq!(few.swap_remove(0), None);
                    few.push(7);
                    model.push(7);
                }
                let at = at.index(model.len());
                prop_assert_eq!(few.swap_remove(at), Some(model.swap_remove(at)));
                prop_assert_eq!(&few[..], &model[..]);
            }
        }
    }
}
