//! Each measure is compared with its closed form, or with the package that defines it.

use std::f64::consts::{PI, TAU};
use std::path::Path;

use serde_json::Value;

use super::mel::mel_bands;
use super::stoi::{STOI_FRAME, STOI_HOP, bessel_i0, resampled};
use super::*;

fn noise(samples: usize) -> Vec<f64> {
    let mut state = 1u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) / f64::from(1u32 << 31) - 1.0
    };
    (0..samples).map(step).collect()
}

fn narrowed(signal: impl IntoIterator<Item = f64>) -> Vec<f32> {
    signal.into_iter().map(|sample| sample as f32).collect()
}

fn wave(cycles: usize, samples: usize, phase: f64) -> Vec<f32> {
    let angle = |i: usize| TAU * (cycles * i) as f64 / samples as f64 + phase;
    narrowed((0..samples).map(|i| angle(i).sin()))
}

#[test]
fn si_sdr_in_closed_form() {
    let reference = wave(10, 1000, 0.0);
    // Cosines of the same frequency and sines of others are orthogonal to it.
    for (other, gain) in [(wave(10, 1000, PI / 2.0), 0.1), (wave(37, 1000, 0.3), 0.5)] {
        let mllm = |scale: f32, offset: f32| -> Vec<f32> {
            let pairs = reference.iter().zip(&other);
            pairs
                .map(|(x, n)| scale * (x + gain * n) + offset)
                .collect()
        };
        let expected = -20.0 * f64::from(gain).log10();
        for estimate in [mllm(1.0, 0.0), mllm(-0.25, 0.0), mllm(3.0, 0.75)] {
            let got = si_sdr_db(&reference, &estimate);
            // Rounding to float32 is 130 dB below.
            assert!((got - expected).abs() < 1e-4, "{got} for {expected} dB");
        }
    }
}

#[test]
fn si_sdr_at_its_ends() {
    let reference = wave(10, 1000, 0.0);
    let half: Vec<f32> = reference.iter().map(|x| x / 2.0).collect();
    let third: Vec<f32> = reference.iter().map(|x| x / 3.0).collect();
    // Halves are exact, thirds are rounded to 24 bits.
    assert!(si_sdr_db(&reference, &half) > 250.0);
    assert!(si_sdr_db(&reference, &third) > 130.0);
    assert!(si_sdr_db(&reference, &wave(10, 1000, PI / 2.0)) < -130.0);
    assert!(si_sdr_db(&reference, &[0.1; 1000]).is_nan());
    assert!(si_sdr_db(&[0.1; 1000], &reference).is_nan());
}

#[test]
#[should_panic(expected = "differ in length")]
fn lengths_must_agree() {
    stoi(&[0.0; 5000], &[0.0; 5001], 10_000);
}

/// The reference of `stoi.py`.
fn modulated(fixture: &Value, rate_hz: u32, samples: usize) -> Vec<f64> {
    let numbers = |row: &Value| -> Vec<f64> {
        let row = row.as_array().unwrap();
        row.iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let sines: Vec<Vec<f64>> = fixture["sines"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let mute = numbers(&fixture["mute"]);
    let sample = |i: usize| {
        let t = i as f64 / f64::from(rate_hz);
        let sum: f64 = sines
            .iter()
            .map(|sine| {
                let amplitude = 0.5 + 0.5 * (TAU * sine[1] * t + sine[2]).sin();
                sine[3] * amplitude * (TAU * sine[0] * t).sin()
            })
            .sum();
        sum * if t % mute[0] < mute[1] { mute[2] } else { 1.0 }
    };
    (0..samples).map(sample).collect()
}

#[test]
fn stoi_agrees_with_pystoi() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let text = std::fs::read_to_string(folder.join("stoi.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let rate_hz = case["sample_rate_hz"].as_u64().unwrap() as u32;
        let samples = case["samples"].as_u64().unwrap() as usize;
        let peak = case["noise"].as_f64().unwrap();
        let reference = modulated(&fixture, rate_hz, samples);
        let noisy = reference.iter().zip(noise(samples));
        let estimate = narrowed(noisy.map(|(x, n)| x + peak * n));
        let got = stoi(&narrowed(reference), &estimate, rate_hz);
        match (got, case["stoi"].as_f64()) {
            // Both are float64; another libm's sine may round a sample otherwise.
            (Some(got), Some(expected)) => {
                assert!((got - expected).abs() < 1e-8, "{case}: {got}");
            }
            (got, expected) => assert_eq!(got, expected, "{case}"),
        }
    }
}

#[test]
fn stoi_of_little_is_none() {
    assert_eq!(stoi(&[], &[], 16_000), None);
    assert_eq!(stoi(&[0.1; 200], &[0.1; 200], 10_000), None);
    // 31 frames and one more sample. Joining the frames that are not silent costs one frame.
    let fits = 30 * STOI_HOP + STOI_FRAME + 1;
    let sound = narrowed(noise(fits));
    assert!((stoi(&sound, &sound, 10_000).unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(stoi(&sound[1..], &sound[1..], 10_000), None);
    assert_eq!(stoi(&vec![0.0; fits], &sound, 10_000), Some(0.0));
}

/// Resampled, a sine is the sine at the other rate, to the filter's 60 dB, away from the ends.
#[test]
fn resampling_keeps_a_sine() {
    for (from_hz, to_hz) in [(16_000, 10_000), (8_000, 10_000), (44_100, 10_000)] {
        let sine = |rate_hz: u32, samples: u32| -> Vec<f64> {
            let angle = |i: u32| TAU * 1000.0 * f64::from(i) / f64::from(rate_hz);
            (0..samples).map(|i| angle(i).sin()).collect()
        };
        let got = resampled(&sine(from_hz, from_hz / 10), from_hz, to_hz);
        assert_eq!(got.len(), to_hz as usize / 10);
        let expected = sine(to_hz, to_hz / 10);
        let inner = 100..got.len() - 100;
        for (x, y) in got[inner.clone()].iter().zip(&expected[inner]) {
            assert!((x - y).abs() < 1e-3, "{from_hz} Hz: {x}, not {y}");
        }
    }
}

#[test]
fn what_is_not_finite_is_not_good() {
    let reference = narrowed(noise(8000));
    let mut estimate = reference.clone();
    for broken in [f32::NAN, f32::INFINITY] {
        estimate[4000] = broken;
        assert!(si_sdr_db(&reference, &estimate).is_nan());
        assert!(stoi(&reference, &estimate, 10_000).unwrap().is_nan());
        assert!(stoi(&reference, &estimate, 16_000).unwrap().is_nan());
        assert!(mel_distance_db(&reference, &estimate, 10_000).is_nan());
    }
}

#[test]
fn bessel_function_in_tables() {
    // Its first digits, as `scipy.special.i0` prints them.
    for (x, expected) in [(0.0, 1.0), (1.0, 1.266_065_878), (5.0, 27.239_871_824)] {
        assert!((bessel_i0(x) - expected).abs() < 1e-9 * expected);
    }
}

#[test]
fn mel_distance_of_a_gain_is_the_gain() {
    let sound = narrowed(noise(5000));
    assert_eq!(mel_distance_db(&sound, &sound, 24_000), 0.0);
    for gain in [0.5f32, 4.0, -8.0] {
        let scaled: Vec<f32> = sound.iter().map(|x| gain * x).collect();
        let expected = (20.0 * f64::from(gain.abs()).log10()).abs();
        let got = mel_distance_db(&sound, &scaled, 24_000);
        assert!((got - expected).abs() < 1e-9, "{got} for {expected} dB");
    }
}

/// Against the sums that define it, and the floor of silence.
#[test]
fn mel_levels_by_definition() {
    let samples = noise(1024 + 256 + 255);
    let silence = vec![0.0f32; samples.len()];
    let rate_hz = 16_000.0;
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let mut sum = 0.0;
    for start in [0, 256] {
        let mut bands = [0.0; 80];
        for bin in 0..513 {
            let (mut re, mut im) = (0.0, 0.0);
            for i in 0..1024 {
                let turn = PI * i as f64 / 512.0;
                let sample = f64::from(samples[start + i] as f32);
                let windowed = sample * (turn / 2.0).sin().powi(2);
                let angle = PI * ((i * bin) % 1024) as f64 / 512.0;
                re += windowed * angle.cos();
                im += windowed * angle.sin();
            }
            let hz = bin as f64 * rate_hz / 1024.0;
            for (index, band) in bands.iter_mut().enumerate() {
                let edge = |at: f64| {
                    let mels = mel(rate_hz / 2.0) * (index as f64 + at) / 81.0;
                    700.0 * (10f64.powf(mels / 2595.0) - 1.0)
                };
                let (low, middle, high) = (edge(0.0), edge(1.0), edge(2.0));
                let weight = match hz {
                    _ if hz < low || hz > high => 0.0,
                    _ if hz < middle => (hz - low) / (middle - low),
                    _ => (high - hz) / (high - middle),
                };
                *band += weight * f64::hypot(re, im);
            }
        }
        sum += bands.map(|m| 20.0 * m.log10() + 100.0).iter().sum::<f64>();
    }
    let got = mel_distance_db(&silence, &narrowed(samples), 16_000);
    assert!((got - sum / 160.0).abs() < 1e-9, "{got}");
}

#[test]
fn mel_distance_of_little_sound() {
    assert_eq!(mel_distance_db(&[], &[], 24_000), 0.0);
    let click = [0.0, 0.0, 1.0];
    let louder = [0.0, 0.0, 2.0];
    let got = mel_distance_db(&click, &louder, 24_000);
    // Under the window's start a click is quiet: 20 log10(sin(2 pi / 1024)^2) = -88 dB.
    assert!((got - 20.0 * 2f64.log10()).abs() < 1e-9, "{got}");
    for (rate_hz, bands) in [(8_000, 80), (48_000, 80), (96_000, 79)] {
        assert_eq!(mel_bands(rate_hz).len(), bands, "{rate_hz}");
    }
}

#[test]
fn edits_by_hand() {
    let count = |a: &str, b: &str| edit_rate(&words(a), &words(b));
    let of = |edits, expected| EditCount { edits, expected };
    assert_eq!(count("the cat sat", "the cat sat"), of(0, 3));
    assert_eq!(count("the cat sat", "a cat sat down"), of(2, 3));
    assert_eq!(count("the cat sat", ""), of(3, 3));
    assert_eq!(count("", "the cat"), of(2, 0));
    let got = edit_rate(&characters("Kitten!"), &characters("sitting"));
    assert_eq!(got, of(3, 6));
    let total: EditCount = [of(1, 3), of(2, 5)].into_iter().sum();
    assert_eq!(total, of(3, 8));
    assert_eq!(total.rate(), 0.375);
    assert!(of(0, 0).rate().is_nan());
}

#[test]
fn slips_by_hand() {
    let count = |a: &str, b: &str| {
        let slips = Slips::count(&words(a), &words(b), Some("nine"));
        (slips.doubled, slips.dropped, slips.expected)
    };
    let inserted =
        |heard: &str| Slips::count(&words("three five two"), &words(heard), Some("nine")).inserted;
    assert_eq!(inserted("three nine five two"), 1);
    assert_eq!(inserted("three five two four six"), 2);
    assert_eq!(inserted("nine three three five"), 0, "doubled or dropped");
    for (heard, expected) in [
        ("three five two", (0, 0, 3)),
        ("three three five two", (1, 0, 3)),
        ("three five two two two", (2, 0, 3)),
        ("nine three five two", (1, 0, 3)),
        ("three nine five two", (0, 0, 3)),
        ("three two", (0, 1, 3)),
        ("five", (0, 2, 3)),
        ("", (0, 3, 3)),
        // One word for another is an error, and no slip.
        ("three four two", (0, 0, 3)),
        ("nine three two", (1, 1, 3)),
    ] {
        assert_eq!(count("three five two", heard), expected, "{heard}");
    }
    assert_eq!(count("three three", "three three"), (0, 0, 2));
    assert_eq!(count("", "nine"), (1, 0, 0));
    let slips = ["one", "one one"].map(|heard| Slips::count(&words("one"), &words(heard), None));
    let total: Slips = slips.into_iter().sum();
    assert_eq!((total.doubled, total.dropped, total.expected), (1, 0, 2));
}

#[test]
fn words_are_normalized() {
    for (text, expected) in [
        ("  Hello,\tWORLD!\n", "hello world"),
        ("Don't \u{201c}stop\u{201d}.", "don't stop"),
        (
            "It\u{2019}s 'quoted' -- the dogs' $5.20",
            "it's quoted the dogs 520",
        ),
        (
            "well-known and/or one\u{2014}two",
            "well known and or one two",
        ),
        ("\u{c9}T\u{c9} Stra\u{df}e", "\u{e9}t\u{e9} stra\u{df}e"),
        (" ... ' - ", ""),
    ] {
        assert_eq!(words(text).join(" "), expected);
    }
    assert_eq!(characters("A  b!"), ['a', ' ', 'b']);
}
