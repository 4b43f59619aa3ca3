//! Recomputed modules against the same modules in the graph.

use std::sync::{Arc, Mutex};

use burn::module::{Module, Param, ParamId};
use burn::nn::Linear;
use burn::tensor::Tensor;

use super::attention::rotary_from;
use super::{Input, assert_close, check, device, draw, normal, values};
use crate::{PackedHeads, causal_attention, linear_layer, recomputed, silu, without_kernels};

fn layer(weight: &Tensor<2>, bias: Option<&Tensor<1>>) -> Linear {
    Linear {
        weight: Param::initialized(ParamId::new(), weight.clone()),
        bias: bias.map(|bias| Param::initialized(ParamId::new(), bias.clone())),
    }
}

type Layers = (Linear, Linear);

fn run((first, second): &Layers, [x, gate]: [Tensor<2>; 2]) -> Tensor<2> {
    linear_layer(second, silu(linear_layer(first, x)) * gate)
}

#[test]
fn a_recomputed_module_has_the_same_gradients() {
    let (x, gate) = (normal([5, 3]), normal([5, 4]));
    let (first, second, bias) = (normal([3, 4]), normal([4, 2]), normal([4]));
    let layers = (layer(&first, Some(&bias)), layer(&second, None));
    let inputs = [
        Input::Matrix(x.clone()),
        Input::Matrix(gate.clone()),
        Input::Matrix(first),
        Input::Matrix(second),
        Input::Vector(bias),
    ];
    let within = || run(&layers, [x.clone(), gate.clone()]);
    let again = || recomputed(&layers, [x.clone(), gate.clone()], run);
    check("run again", &inputs, again, within);
    check(
        "run again without kernels",
        &inputs,
        || without_kernels(again),
        within,
    );
    // Recomputation within recomputation, with a result that is used twice.
    let nested = || {
        let outer = |layers: &Layers, inputs: [Tensor<2>; 2]| recomputed(layers, inputs, run);
        let y = recomputed(&layers, [x.clone(), gate.clone()], outer);
        y.clone() * y
    };
    check("run again twice over", &inputs, nested, || {
        within() * within()
    });
}

/// The first run has no graph and so keeps nothing. The second run, in the backward pass, has one.
#[test]
fn a_module_runs_without_a_graph_and_then_with_one() {
    let (x, weight) = (normal([5, 3]), normal([3, 3]));
    let layer = layer(&weight, None);
    let runs = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&runs);
    let y = recomputed(
        &layer,
        [x.clone()],
        move |layer: &Linear, [x]: [Tensor<2>; 1]| {
            seen.lock()
                .unwrap()
                .push([&x, &layer.weight.val()].map(Tensor::is_tracked));
            linear_layer(layer, x)
        },
    );
    assert_eq!(*runs.lock().unwrap(), [[false, false]]);
    let gradients = y.sum().backward();
    assert_eq!(*runs.lock().unwrap(), [[false, false], [true, true]]);
    assert!(x.grad(&gradients).is_some() && weight.grad(&gradients).is_some());
    // Without a wanted gradient the module runs once.
    let x = draw([5, 3]);
    let frozen = layer.clone().no_grad();
    let seen = Arc::clone(&runs);
    let y = recomputed(
        &frozen,
        [x.clone()],
        move |layer: &Linear, [x]: [Tensor<2>; 1]| {
            seen.lock().unwrap().push([true, false]);
            linear_layer(layer, x)
        },
    );
    assert!(!y.is_tracked());
    assert_eq!(runs.lock().unwrap().last(), Some(&[true, false]));
    assert_close(
        "without a gradient",
        &values(y),
        &values(linear_layer(&layer, x)),
        1e-6,
    );
}

/// Constants get no gradient, and the other inputs and parameters get the same one as in the graph.
#[test]
fn some_inputs_and_parameters_are_constants() {
    let (x, gate) = (normal([5, 3]), draw([5, 4]));
    let (first, second) = (normal([3, 4]), normal([4, 2]));
    let layers = (layer(&first, None).no_grad(), layer(&second, None));
    let inputs = [Input::Matrix(x.clone()), Input::Matrix(second)];
    check(
        "with constants",
        &inputs,
        || recomputed(&layers, [x.clone(), gate.clone()], run),
        || run(&layers, [x.clone(), gate.clone()]),
    );
    let y = recomputed(&layers, [x.clone(), gate.clone()], run);
    assert!(
        first.grad(&y.sum().backward()).is_none(),
        "of a frozen layer"
    );
}

/// Numbers of parameters that need each size of a step, and more than the largest size allows.
#[test]
fn modules_may_have_many_parameters() {
    for count in [1, 3, 10, 40, 80, 300] {
        let weights: Vec<Tensor<2>> = (0..count).map(|_| normal([3, 3])).collect();
        let layers: Vec<Linear> = weights.iter().map(|weight| layer(weight, None)).collect();
        // The input is a constant, so that the parameters alone are inputs of the step.
        let x = draw([2, 3]);
        let run = |layers: &Vec<Linear>, [x]: [Tensor<2>; 1]| {
            let each = layers.iter().map(|layer| linear_layer(layer, x.clone()));
            Tensor::cat(each.collect(), 0)
        };
        let inputs: Vec<Input> = weights.into_iter().map(Input::Matrix).collect();
        check(
            &format!("{count} parameters"),
            &inputs,
            || recomputed(&layers, [x.clone()], run),
            || run(&layers, [x.clone()]),
        );
    }
}

/// Several threads, each with its own graph, run backward passes within backward passes at the same time.
#[test]
fn threads_do_not_wait_for_each_other() {
    let work = || {
        for _ in 0..20 {
            let (x, weight) = (normal([4, 3]), normal([3, 3]));
            let layer = layer(&weight, None);
            let run = |layer: &Linear, [x]: [Tensor<2>; 1]| silu(linear_layer(layer, x));
            let twice = |x: Tensor<2>| recomputed(&layer, [recomputed(&layer, [x], run)], run);
            let inputs = [Input::Matrix(x.clone()), Input::Matrix(weight)];
            check(
                "on a thread",
                &inputs,
                || twice(x.clone()),
                || run(&layer, [run(&layer, [x.clone()])]),
            );
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().expect("the same gradients on every thread");
        }
    });
}

/// Blockwise attention, which has a hand-written gradient, within a recomputed module.
#[test]
fn attention_may_be_recomputed() {
    let heads = PackedHeads {
        heads: 2,
        kv_heads: 1,
    };
    let (x, weight) = (normal([2, 9, 5]), normal([5, 4 * 4]));
    let layer = layer(&weight, None);
    let inputs = [Input::Cube(x.clone()), Input::Matrix(weight)];
    let rotary = rotary_from(0, 9, 4, true, &device().inner());
    let run = move |layer: &Linear, [x]: [Tensor<3>; 1]| {
        causal_attention(linear_layer(layer, x), heads, &rotary)
    };
    check(
        "attention run again",
        &inputs,
        || without_kernels(|| recomputed(&layer, [x.clone()], run.clone())),
        || run(&layer, [x.clone()]),
    );
}
