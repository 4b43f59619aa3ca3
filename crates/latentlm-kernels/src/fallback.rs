//! Doing without kernels where there are some, to measure what they are worth.

use std::cell::Cell;

thread_local!(static SWITCHED_OFF: Cell<bool> = const { Cell::new(false) });

/// Runs `work` on Burn's operations alone, as a device without kernels would. Holds for operations
/// that this thread begins, their gradients included.
pub fn without_kernels<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            SWITCHED_OFF.set(self.0);
        }
    }
    let _before = Before(SWITCHED_OFF.replace(true));
    work()
}

/// Whether kernels are wanted, asked now for work that is done later.
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

    /// Runs `work` by this choice, whatever thread it is on.
    pub(crate) fn hold<R>(self, work: impl FnOnce() -> R) -> R {
        match self.switched_off {
            true => without_kernels(work),
            false => work(),
        }
    }
}

/// Whether this thread may use kernels.
#[cfg(feature = "cpu")]
pub(crate) fn kernels_allowed() -> bool {
    !SWITCHED_OFF.get()
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tensor};

    #[test]
    fn kernels_come_back_whatever_happens() {
        let x = Tensor::<1>::zeros([1], &Device::default());
        let allowed = || crate::has_kernels(&x) && crate::cpu::plain(x.clone()).is_some();
        assert!(allowed());
        assert!(!without_kernels(allowed));
        let panicked = std::panic::catch_unwind(|| without_kernels(|| panic!("on purpose")));
        assert!(panicked.is_err() && allowed());
        without_kernels(|| assert!(!without_kernels(allowed) && !allowed(), "nested"));
    }
}
