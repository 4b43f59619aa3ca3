//! Switches of a thread: one turns the kernels off, to measure how much time they save, one says that a training
//! runs.

use std::cell::Cell;
use std::thread::LocalKey;

thread_local!(static SWITCHED_OFF: Cell<bool> = const { Cell::new(false) });
thread_local!(static IN_TRAINING: Cell<bool> = const { Cell::new(false) });

/// Runs `work` on Burn's operations alone, as on a device without kernels. The switch applies to the
/// operations that this thread starts and to their gradients.
pub fn without_kernels<R>(work: impl FnOnce() -> R) -> R {
    switched(&SWITCHED_OFF, work)
}

/// Runs `work` on tensors without a graph as a part of a training: products with bfloat16 weights are rounded as
/// they are in the graph, instead of keeping float32 as models that only infer do.
pub(crate) fn in_training<R>(work: impl FnOnce() -> R) -> R {
    switched(&IN_TRAINING, work)
}

/// Runs `work` with a switch on. It comes back after a panic too.
fn switched<R>(switch: &'static LocalKey<Cell<bool>>, work: impl FnOnce() -> R) -> R {
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
        was: switch.replace(true),
    };
    work()
}

/// The state of the switch on one thread, kept for work that is done later, maybe on another thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    switched_off: bool,
}

impl Choice {
    pub(crate) fn of_this_thread() -> Self {
        Self {
            switched_off: SWITCHED_OFF.get(),
        }
    }

    /// Runs `work` with the kernels switched as they were on the thread that made this choice.
    pub(crate) fn apply<R>(self, work: impl FnOnce() -> R) -> R {
        if self.switched_off {
            without_kernels(work)
        } else {
            work()
        }
    }
}

/// Whether this thread may use kernels.
#[cfg(feature = "cpu")]
pub(crate) fn kernels_allowed() -> bool {
    !SWITCHED_OFF.get()
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
}
