//! Weights that depend only on a seed.
//!
//! Burn draws weights from the device's generator, which the whole process shares, and it draws a parameter when it
//! is first read. `device.seed(5); config.init(&device)` can be repeated in a program with one thread. Tests share
//! a process, and the draws of one test come between those of another.

use std::sync::{Mutex, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};

/// Number of draws after which [`seeded`] gives up.
const TRIES: usize = 100;

/// Builds a module whose weights depend only on `seed`, whatever other threads do at the same time.
///
/// Calls take turns, and all weights are drawn before a call returns. Other code may still draw from the generator
/// meanwhile, for example to build a model for loading weights into it. So weights are drawn again until two draws
/// in a row are equal bit by bit. A foreign draw moves the generator, and it is practically impossible that it
/// happens twice at the same point.
///
/// `init` must not call `seeded` itself.
///
/// # Panics
/// If no two draws in a row are equal, because `init` depends on something else or another thread never stops
/// drawing.
pub fn seeded<M: Module>(seed: u64, device: &Device, init: impl Fn(&Device) -> M) -> M {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let draw = || {
        device.seed(seed);
        let module = init(device);
        let mut weights = Weights(Vec::new());
        module.visit(&mut weights);
        (module, weights.0)
    };
    let (_, mut last) = draw();
    for _ in 1..TRIES {
        let (module, weights) = draw();
        if weights == last {
            return module;
        }
        last = weights;
    }
    panic!("weights of seed {seed} never came out twice the same in {TRIES} draws");
}

/// Reads all parameters, which makes Burn draw them.
struct Weights(Vec<TensorData>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().into_data());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Distribution;

    use super::*;

    fn linear(seed: u64) -> Linear {
        seeded(seed, &Device::default(), |device| {
            LinearConfig::new(30, 50).init(device)
        })
    }

    fn weight(linear: &Linear) -> TensorData {
        linear.weight.val().into_data()
    }

    /// Takes one number from the generator, as another test would.
    fn disturb(device: &Device) {
        let _ = Tensor::<1>::random([1], Distribution::Default, device).into_data();
    }

    #[test]
    fn threads_do_not_disturb_each_other() {
        let expected: Vec<TensorData> = (0..8).map(|seed| weight(&linear(seed))).collect();
        assert!(expected.windows(2).all(|pair| pair[0] != pair[1]));
        for _ in 0..20 {
            let threads: Vec<_> = (0..8)
                .map(|seed| thread::spawn(move || weight(&linear(seed))))
                .collect();
            for (thread, expected) in threads.into_iter().zip(&expected) {
                assert_eq!(&thread.join().unwrap(), expected);
            }
        }
    }

    /// The second and the third draw find the generator moved on.
    #[test]
    fn a_disturbed_draw_is_drawn_again() {
        let calls = Cell::new(0);
        let disturbed = seeded(5, &Device::default(), |device| {
            calls.set(calls.get() + 1);
            let foreign_draws = match calls.get() {
                2 => 1,
                3 => 2,
                _ => 0,
            };
            for _ in 0..foreign_draws {
                disturb(device);
            }
            LinearConfig::new(30, 50).init(device)
        });
        assert!(calls.get() >= 5, "{} draws", calls.get());
        assert_eq!(weight(&disturbed), weight(&linear(5)));
    }

    #[test]
    #[should_panic(expected = "never came out twice the same")]
    fn what_depends_on_more_than_the_seed_is_named() {
        let calls = Cell::new(0);
        let _ = seeded(5, &Device::default(), |device| {
            calls.set(calls.get() + 1);
            for _ in 0..calls.get() {
                disturb(device);
            }
            LinearConfig::new(3, 5).init(device)
        });
    }
}
