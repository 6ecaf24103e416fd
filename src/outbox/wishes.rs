//! What operators want to happen to calls that are out, if these fail.

use std::collections::HashMap;

use super::CallId;

/// What an operator wants to happen if a call that is out fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Retry,
    /// No call that is given up is tried again.
    GiveUp,
    /// It is deleted. No other wish replaces this one.
    Forget,
}

/// The wish for each call that has one.
#[derive(Default)]
pub(super) struct Wishes(HashMap<CallId, Wish>);

impl Wishes {
    /// Remembers a wish, unless an earlier one outweighs it.
    pub(super) fn add(&mut self, id: CallId, wish: Wish) {
        let is_final = match self.of(id) {
            Some(Wish::Forget) => true,
            Some(Wish::GiveUp) => wish == Wish::Retry,
            Some(Wish::Retry) | None => false,
        };
        if !is_final {
            self.0.insert(id, wish);
        }
    }

    pub(super) fn of(&self, id: CallId) -> Option<Wish> {
        self.0.get(&id).copied()
    }

    pub(super) fn remove(&mut self, id: CallId) {
        self.0.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::{Wish, Wishes};

    #[test]
    fn a_wish_to_retry_does_not_replace_one_to_give_up_and_none_replaces_one_to_forget() {
        let mut wishes = Wishes::default();
        let mut after = |wish| {
            wishes.add(7, wish);
            wishes.of(7)
        };
        assert_eq!(after(Wish::Retry), Some(Wish::Retry));
        assert_eq!(after(Wish::GiveUp), Some(Wish::GiveUp));
        assert_eq!(after(Wish::Retry), Some(Wish::GiveUp));
        assert_eq!(after(Wish::Forget), Some(Wish::Forget));
        assert_eq!(after(Wish::GiveUp), Some(Wish::Forget));
        wishes.remove(7);
        assert_eq!(wishes.of(7), None);
    }
}
