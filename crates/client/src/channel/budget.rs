//! What repeats of a channel may cost.

use std::sync::atomic::{AtomicU64, Ordering};

use super::options::BudgetOptions;

/// A bucket of tokens, in thousandths: gRPC proposal A6 rounds the ratio to three decimal places.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    full: u64,
    returned: u64,
}

const TOKEN: u64 = 1_000;

impl Budget {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "between 0 and the full, which is below 2^42"
    )]
    pub(super) fn new(options: BudgetOptions) -> Self {
        let full = u64::from(options.max_tokens) * TOKEN;
        let returned = (options.token_ratio * TOKEN as f64).round().clamp(0.0, full as f64) as u64;
        Self { left: AtomicU64::new(full), full, returned }
    }

    /// Whether there is enough for a repeat.
    pub(super) fn allows(&self) -> bool {
        self.left.load(Ordering::Relaxed) > self.full / 2
    }

    /// An attempt failed. Answers whether another one may follow.
    pub(super) fn fail(&self) -> bool {
        self.change(|left| left.saturating_sub(TOKEN));
        self.allows()
    }

    /// A call succeeded.
    pub(super) fn succeed(&self) {
        // Mostly it is full, and then nobody's cache has to hear of it.
        if self.left.load(Ordering::Relaxed) < self.full {
            self.change(|left| (left + self.returned).min(self.full));
        }
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let changed = |left| Some(change(left));
        // It never refuses.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_tokens_can_be_spent_and_successes_return_a_part() {
        let budget = Budget::new(BudgetOptions { max_tokens: 10, token_ratio: 0.5 });
        assert_eq!([(); 5].map(|()| budget.fail()), [true, true, true, true, false]);
        assert!(!budget.allows(), "half is not more than half");
        budget.succeed();
        assert!(budget.allows());
        for _ in 0..20 {
            budget.fail();
        }
        let to_return = (0..100).take_while(|_| !budget.allows()).map(|_| budget.succeed()).count();
        assert_eq!(to_return, 11, "from none to more than five");
        for _ in 0..100 {
            budget.succeed();
        }
        assert_eq!([(); 5].map(|()| budget.fail()), [true, true, true, true, false], "it is not overfull");
    }
}
