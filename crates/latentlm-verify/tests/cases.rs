//! The shipped cases agree with our models, and a model with a wrong weight is detected.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm_verify::{WeightBits, WeightType, cases, verify, verify_rounded, verify_weights};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

#[test]
fn shipped_cases_agree() {
    let found = cases(&fixtures()).unwrap();
    for kind in [
        "transformer",
        "schedule",
        "vibevoice-tokenizer",
        "vibevoice-generation",
        "vibevoice-original",
        "vibevoice-realtime",
        "vibevoice-asr",
        "vibevoice-small",
    ] {
        let is_kind = |case: &PathBuf| {
            case.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(kind))
        };
        assert!(found.iter().any(is_kind), "no case of kind {kind}");
    }
    for case in found {
        let report = verify(&case, &Device::default(), 1.0).unwrap();
        for comparison in &report.comparisons {
            assert!(comparison.passed(), "{}: {comparison:?}", case.display());
        }
        assert!(report.passed());
    }
}

/// A copy of a case with changed bytes in its weights.
fn damaged(case: &str, change: impl Fn(&mut Vec<u8>)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join(case);
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(fixtures().join(case)).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if path
            .file_name()
            .is_some_and(|name| name == "model.safetensors")
        {
            change(&mut bytes);
        }
        fs::write(copy.join(path.file_name().unwrap()), bytes).unwrap();
    }
    dir
}

/// A single weight in the middle of the file is replaced by 1.5.
#[test]
fn a_wrong_weight_is_found() {
    for case in [
        "transformer-gqa",
        "vibevoice-tokenizer-small",
        "vibevoice-small",
        "vibevoice-generation-tied",
        "vibevoice-asr-one",
        "vibevoice-realtime-one",
    ] {
        let dir = damaged(case, |bytes| {
            let middle = (bytes.len() / 2) & !3;
            bytes[middle..middle + 4].copy_from_slice(&1.5f32.to_le_bytes());
        });
        let report = verify(&dir.path().join(case), &Device::default(), 1.0).unwrap();
        assert!(!report.passed(), "{case}");
    }
}

/// In float32 the comparison finds the reference's numbers, which tells that each position read the right ones; with
/// weights of 8 bits hidden states are near. Tokens of these models, which were not trained, are too close to each other
/// to be told.
#[test]
fn quantized_weights_give_nearly_the_same() {
    for case in [
        "vibevoice-small",
        "vibevoice-generation-tied",
        "vibevoice-generation-two",
        "vibevoice-asr-one",
    ] {
        let errors = [
            WeightType::Float32,
            WeightType::Bfloat16,
            WeightType::Quantized(WeightBits::Eight),
        ]
        .map(|weights| {
            let report = verify_weights(&fixtures().join(case), &Device::default(), weights);
            let report = report.unwrap().unwrap();
            let hidden = &report.comparisons[0];
            assert_eq!(hidden.name, "hidden");
            assert!(hidden.passed(), "{case}, {weights:?}: {hidden:?}");
            if weights == WeightType::Float32 {
                assert!(report.passed(), "{case}: {report:?}");
            }
            hidden.error
        });
        assert!(errors[0] < 1e-4, "{case}: {errors:?}");
        assert!(errors[0] < errors[1], "{case}: {errors:?}");
        assert_ne!(errors[0], errors[2], "{case}: {errors:?}");
    }
    let other = verify_weights(
        &fixtures().join("vibevoice-realtime-one"),
        &Device::default(),
        WeightType::Float32,
    );
    assert!(other.unwrap().is_none());
}

/// With weights in bfloat16, outputs are close to the reference's, but not as close as in float32.
#[test]
fn rounded_weights_give_nearly_the_same() {
    let case = fixtures().join("transformer-gqa");
    let report = verify_rounded(&case, &Device::default()).unwrap().unwrap();
    for comparison in &report.comparisons {
        assert!(comparison.passed(), "{comparison:?}");
    }
    let names: Vec<&str> = report.comparisons.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names[..3], ["condition", "output", "loss"]);
    assert_eq!(names[4], "gradients of all parameters");
    assert!(report.comparisons[0].error > 5e-4, "nothing was rounded");
    let others = fixtures().join("vibevoice-small");
    assert!(
        verify_rounded(&others, &Device::default())
            .unwrap()
            .is_none()
    );

    // A thousand wrong bytes in the middle exceed the bounds for rounding.
    let dir = damaged("transformer-gqa", |bytes| {
        let middle = (bytes.len() / 2) & !3;
        for number in bytes[middle..middle + 1024].chunks_exact_mut(4) {
            number.copy_from_slice(&1.5f32.to_le_bytes());
        }
    });
    let wrong = verify_rounded(&dir.path().join("transformer-gqa"), &Device::default());
    assert!(!wrong.unwrap().unwrap().passed());
}

#[test]
fn a_file_cut_in_half_is_an_error() {
    let case = "vibevoice-tokenizer-small";
    let dir = damaged(case, |bytes| bytes.truncate(bytes.len() / 2));
    let error = verify(&dir.path().join(case), &Device::default(), 1.0).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}

#[test]
fn a_folder_without_cases_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        cases(dir.path())
            .unwrap_err()
            .to_string()
            .contains("vibevoice-tokenizer")
    );
    assert!(cases(&dir.path().join("none")).is_err());
}
