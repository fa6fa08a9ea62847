//! Picks, calls and reports allocate nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use netloft_balance::{Builtin, Caller, Context, Key, Outcome, Strategy as _};

#[expect(unreachable_pub, reason = "shared by the test programs")]
mod support;

#[test]
fn from_pick_to_report_nothing_is_allocated() {
    for strategy in Builtin::ALL {
        for weights in [vec![1; 100], (1..=100).collect::<Vec<u32>>()] {
            let picker = strategy.picker(support::roster(&weights));
            let mut caller = Caller::seeded(41);
            let info = allocation_counter::measure(|| {
                for number in 0..1_000_u32 {
                    let now = Duration::from_millis(number.into());
                    let context = Context::at(now).with_key(Key::of(number.to_be_bytes()));
                    let index = picker.pick(&mut caller, &context).unwrap();
                    let other = picker.pick_untried(&mut caller, &context, &[index]).unwrap();
                    let given_up = picker.roster().begin(index, now);
                    picker.roster().begin(other, now).end(2 * now, Outcome::Success);
                    drop(given_up);
                }
            });
            assert_eq!(info.count_total, 0, "{strategy}");
        }
    }
    let info = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
    assert_eq!(info.count_total, 1, "and the counter counts");
}
