//! How time and memory grow with batch, length and width, beside what the arithmetic alone takes.

use std::fmt;

use burn::tensor::Device;
use latentlm::core::Precision;
use latentlm_eval::{Series, line_chart};

use crate::sizes::{ImageSizes, SIXTEEN};
use crate::{Cost, Workload, probe};

/// Bytes of a mebibyte.
const MEBIBYTE: f64 = 1_048_576.0;
/// Numbers a head of attention has where the width grows.
const HEAD_DIM: usize = 32;

/// Names of what grows along a curve: images at once, latents an image, width of backbone and head.
const AXES: [&str; 3] = ["batch", "length", "width"];

/// A kind of work that curves measure: name in the table, in a file's name, and workload.
type Work = (&'static str, &'static str, fn(ImageSizes) -> Workload);

/// Steps are those of the language model, sampling is guided.
const WORKS: [Work; 2] = [
    ("training step", "step", Workload::ImageLmStep),
    ("sampling", "sample", Workload::Sample),
];

/// One point of one curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingPoint {
    /// The kind of work: `training step` or `sampling`.
    pub work: &'static str,
    /// What grows along the curve: `batch`, `length` or `width`.
    pub axis: &'static str,
    /// The size that grows.
    pub grown: usize,
    /// Images at once.
    pub batch: usize,
    /// The workload with the sizes at this point.
    pub workload: Workload,
}

/// All points, curve by curve: the default recipe's model, larger and larger along each axis.
pub fn scaling_points() -> Vec<ScalingPoint> {
    let batches = [1, 4, 16, 64, 256].map(|batch| (batch, ImageSizes { batch, ..SIXTEEN }));
    let lengths = [4, 16, 64, 256].map(|tokens| (tokens, ImageSizes { tokens, ..SIXTEEN }));
    let widths = [64, 128, 256, 512, 768].map(|width| {
        let sizes = ImageSizes {
            width,
            heads: width / HEAD_DIM,
            kv_heads: width / HEAD_DIM / 2,
            ..SIXTEEN
        };
        (width, sizes)
    });
    let mut points = Vec::new();
    for (work, _, workload) in WORKS {
        for (axis, curve) in AXES.into_iter().zip([&batches[..], &lengths, &widths]) {
            points.extend(curve.iter().map(|&(grown, sizes)| ScalingPoint {
                work,
                axis,
                grown,
                batch: sizes.batch,
                workload: workload(sizes),
            }));
        }
    }
    points
}

/// Peak rates of a device, measured on simple work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Operations a second of products of float32 matrices.
    pub operations_per_s: f64,
    /// Bytes a second of passes over more than any cache holds.
    pub bytes_per_s: f64,
}

impl Rates {
    /// Measures a device; takes seconds.
    pub fn measure(device: &Device) -> Self {
        Self {
            operations_per_s: probe::float32_rate(device),
            bytes_per_s: probe::memory_rate(device),
        }
    }

    /// Milliseconds that operations and bytes take at these rates.
    pub fn floor_ms(&self, cost: Cost) -> [f64; 2] {
        [
            1e3 * cost.operations / self.operations_per_s,
            1e3 * cost.bytes / self.bytes_per_s,
        ]
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "matrix products of float32 at {:.0} GFLOP/s, memory at {:.1} GB/s",
            self.operations_per_s / 1e9,
            self.bytes_per_s / 1e9
        )
    }
}

/// Time and memory of one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Milliseconds a unit, median.
    pub milliseconds: f64,
    /// Peak memory of the process.
    pub bytes: f64,
}

/// Measured points, as a table and as charts.
#[derive(Debug)]
pub struct ScalingReport {
    rates: Rates,
    table: String,
    /// Points with what their charts show: milliseconds, those of operations and of bytes alone, mebibytes.
    points: Vec<(ScalingPoint, [f64; 4])>,
}

impl ScalingReport {
    /// An empty report on a device of these rates.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            table: format!(
                "{rates}\n\n| work | at | ms | images/s | operations ms | bytes ms | time over the larger | MiB |\n\
                 |---|---|---:|---:|---:|---:|---:|---:|\n"
            ),
            points: Vec::new(),
        }
    }

    /// Adds a point. Returns its line of the table.
    pub fn add(&mut self, point: ScalingPoint, measured: Measured) -> String {
        let [operations, bytes] = self.rates.floor_ms(point.workload.cost(Precision::F32));
        let (ms, memory) = (measured.milliseconds, measured.bytes / MEBIBYTE);
        let line = format!(
            "| {} | {} {} | {ms:.2} | {:.1} | {operations:.2} | {bytes:.2} | {:.1} | {memory:.0} |",
            point.work,
            point.axis,
            point.grown,
            1e3 * point.batch as f64 / ms,
            ms / operations.max(bytes)
        );
        self.table += &line;
        self.table.push('\n');
        self.points.push((point, [ms, operations, bytes, memory]));
        line
    }

    /// The files of the report: names and texts. `scaling.md` holds the table.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![("scaling.md".to_owned(), self.table.clone())];
        for axis in AXES {
            for (work, file, _) in WORKS {
                let names = ["measured, ms", "operations, ms", "bytes, ms"];
                let series = [0, 1, 2].map(|number| self.curve(names[number], work, axis, number));
                let chart = line_chart(&format!("{work}: log2 of {axis}"), &series, true);
                files.push((format!("scaling-{file}-{axis}.svg"), chart));
            }
            let names = ["training step, MiB", "sampling, MiB"];
            let series = [0, 1].map(|work| self.curve(names[work], WORKS[work].0, axis, 3));
            let chart = line_chart(&format!("log2 of {axis}"), &series, true);
            files.push((format!("scaling-memory-{axis}.svg"), chart));
        }
        files
    }

    /// One of the numbers of points over the logarithm of what grows: its values double and quadruple.
    fn curve(&self, name: &'static str, work: &str, axis: &str, number: usize) -> Series<'static> {
        let own = self.points.iter();
        let own = own.filter(|(point, _)| (point.work, point.axis) == (work, axis));
        let points = own.map(|(point, numbers)| ((point.grown as f64).log2(), numbers[number]));
        Series {
            name,
            points: points.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block of width 4 with two heads, one for keys and values, and a head without layers:
    /// small enough to count by hand.
    #[test]
    fn costs_are_counted_as_by_hand() {
        let sizes = ImageSizes {
            classes: 1,
            batch: 3,
            tokens: 2,
            latent_dim: 1,
            width: 4,
            depth: 1,
            heads: 2,
            kv_heads: 1,
            mlp_ratio: 24.0,
            head_depth: 0,
            draws: 2,
            recompute: false,
        };
        // q, o and half of k and v; three matrices of 4 by 64; the condition layer.
        let backbone = 16.0 + 16.0 + 8.0 + 8.0 + 3.0 * 4.0 * 64.0 + 16.0;
        // In, out, and the last modulation.
        let head = 4.0 + 4.0 + 32.0;
        let timestep = 256.0 * 4.0 + 16.0;
        // Positions 0 and 1 look at one and two: three pairs of four numbers, scores and sums.
        let attention = 3.0 * 4.0 * 2.0 * 2.0;
        let positions = 2.0 * 2.0 * (4.0 + backbone) + attention;
        let step = Workload::ImageLmStep(sizes).cost(Precision::F32);
        let heads = 2.0 * 2.0 * 2.0 * (head + timestep);
        assert_eq!(step.operations, 3.0 * 3.0 * (positions + heads));
        let parameters = 4.0 + backbone + head + timestep + 8.0 + 8.0;
        assert_eq!(step.bytes, 44.0 * parameters);

        let sample = Workload::Sample(sizes).cost(Precision::F32);
        let heads = 2.0 * 2.0 * 20.0 * head;
        assert_eq!(sample.operations, 6.0 * (positions + heads));
        // Keys and values of two numbers each, for three pairs and six rows.
        let cache = 2.0 * 2.0 * 3.0 * 6.0;
        let read = 2.0 * (backbone + 20.0 * head);
        assert_eq!(sample.bytes, 4.0 * (read + cache));
    }

    #[test]
    fn the_report_has_a_line_a_point_and_a_chart_a_curve() {
        let rates = Rates {
            operations_per_s: 1e11,
            bytes_per_s: 1e10,
        };
        let mut report = ScalingReport::new(rates);
        let points = scaling_points();
        for point in &points {
            let floor = rates.floor_ms(point.workload.cost(Precision::F32));
            let measured = Measured {
                milliseconds: 2.0 * floor.into_iter().fold(0.0, f64::max),
                bytes: 3.0 * f64::from(1 << 20),
            };
            let line = report.add(*point, measured);
            assert!(line.ends_with("| 2.0 | 3 |"), "{line}");
        }
        let files = report.files();
        assert_eq!(files.len(), 1 + 9);
        assert_eq!(files[0].1.lines().count(), 4 + points.len());
        for (name, svg) in &files[1..] {
            assert!(name.ends_with(".svg") && svg.starts_with("<svg"), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        }
    }

    /// Rates are of this machine; here only that they are rates.
    #[test]
    fn times_at_a_rate_are_their_quotients() {
        let rates = Rates {
            operations_per_s: 2e9,
            bytes_per_s: 1e9,
        };
        let cost = Cost {
            operations: 4e9,
            bytes: 5e8,
            ..Cost::default()
        };
        assert_eq!(rates.floor_ms(cost), [2000.0, 500.0]);
    }
}
