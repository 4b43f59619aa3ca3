//! Switches of a thread: one turns the kernels off, to measure how much time they save, one says that a training
//! runs, one rounds the factors of products to bfloat16.

use std::cell::Cell;
use std::thread::LocalKey;

#[cfg(feature = "cpu")]
use latentlm_products::Precision;

thread_local!(static SWITCHED_OFF: Cell<bool> = const { Cell::new(false) });
thread_local!(static IN_TRAINING: Cell<bool> = const { Cell::new(false) });
thread_local!(static ROUNDING: Cell<bool> = const { Cell::new(false) });

/// Runs `work` on Burn's operations alone, as on a device without kernels. The switch applies to the operations that this
/// thread starts and to their gradients, and to shards that it hands to other threads ([`at_once`](crate::at_once)).
pub fn without_kernels<R>(work: impl FnOnce() -> R) -> R {
    switched(&SWITCHED_OFF, true, work)
}

/// Runs `work` on tensors without a graph as a part of a training: products with bfloat16 weights are rounded as
/// they are in the graph, instead of keeping float32 as models that only infer do.
pub(crate) fn in_training<R>(work: impl FnOnce() -> R) -> R {
    switched(&IN_TRAINING, true, work)
}

/// Runs `work` with the factors of matrix products rounded to bfloat16, where
/// [`rounds_products`](crate::rounds_products) is true: products of [`linear()`](fn@crate::linear) and
/// [`swiglu_block`](crate::swiglu_block) with float32 weights. All tensors stay float32, and so do sums, attention and
/// whatever is no product. The switch applies to the operations that this thread starts and to their gradients, whenever
/// these are computed, and to shards that it hands to other threads ([`at_once`](crate::at_once)).
pub fn rounded_products<R>(work: impl FnOnce() -> R) -> R {
    switched(&ROUNDING, true, work)
}

/// Runs `work` with a switch on or off. It comes back after a panic too.
fn switched<R>(switch: &'static LocalKey<Cell<bool>>, on: bool, work: impl FnOnce() -> R) -> R {
    struct Before {
        switch: &'static LocalKey<Cell<bool>>,
        was: bool,
    }
    impl Drop for Before {
        fn drop(&mut self) {
            self.switch.set(self.was);
        }
    }
    let _before = Before {
        switch,
        was: switch.replace(on),
    };
    work()
}

/// The state of all switches on one thread, kept for work that is done later, maybe on another thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    switched_off: bool,
    in_training: bool,
    rounding: bool,
}

impl Choice {
    pub(crate) fn of_this_thread() -> Self {
        Self {
            switched_off: SWITCHED_OFF.get(),
            in_training: IN_TRAINING.get(),
            rounding: ROUNDING.get(),
        }
    }

    /// Runs `work` with every switch on or off as it was on the thread that made this choice, whatever this thread has.
    pub(crate) fn apply<R>(self, work: impl FnOnce() -> R) -> R {
        switched(&SWITCHED_OFF, self.switched_off, || {
            switched(&IN_TRAINING, self.in_training, || {
                switched(&ROUNDING, self.rounding, work)
            })
        })
    }
}

/// Whether this thread may use kernels.
#[cfg(feature = "cpu")]
pub(crate) fn kernels_allowed() -> bool {
    !SWITCHED_OFF.get()
}

/// Precision of the factors in the products that this thread starts.
#[cfg(feature = "cpu")]
pub(crate) fn precision() -> Precision {
    if ROUNDING.get() {
        Precision::Bf16
    } else {
        Precision::F32
    }
}

/// Whether this thread runs a part of a training.
#[cfg(feature = "cpu")]
pub(crate) fn is_training() -> bool {
    IN_TRAINING.get()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn kernels_come_back_after_a_panic_too() {
        let x = Tensor::<1>::zeros([1], &Device::default());
        let allowed = || crate::support::has_kernels(&x) && crate::cpu::plain(x.clone()).is_some();
        assert!(allowed());
        assert!(!without_kernels(allowed));
        let panicked = std::panic::catch_unwind(|| without_kernels(|| panic!("on purpose")));
        assert!(panicked.is_err() && allowed());
        without_kernels(|| assert!(!without_kernels(allowed) && !allowed(), "nested"));
    }

    #[test]
    fn a_choice_turns_switches_off_too() {
        let state = || (kernels_allowed(), is_training(), precision());
        let usual = (true, false, Precision::F32);
        let other = (false, true, Precision::Bf16);
        let choice = Choice::of_this_thread();
        let all = || rounded_products(|| (Choice::of_this_thread(), choice.apply(state), state()));
        let (later, inside, after) = without_kernels(|| in_training(all));
        assert_eq!((inside, after), (usual, other));
        assert_eq!((later.apply(state), state()), (other, usual));
    }
}
