//! How time and memory grow with batch, length and width, beside what the arithmetic alone takes.

use std::fmt;
use std::fmt::Write as _;

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

/// The kind of work that a curve measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaledWork {
    /// A training step of the language model.
    Step,
    /// Guided sampling of a batch.
    Sample,
}

impl ScaledWork {
    const ALL: [Self; 2] = [Self::Step, Self::Sample];

    /// Names in a table and in a file's name.
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Step => ["training step", "step"],
            Self::Sample => ["sampling", "sample"],
        }
    }
}

/// One point of one curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingPoint {
    /// The kind of work.
    pub work: ScaledWork,
    /// What grows along the curve: `batch`, `length` or `width`.
    pub axis: &'static str,
    /// The sizes at this point.
    pub sizes: ImageSizes,
}

/// All points, curve by curve: the default recipe's model, larger and larger along each axis.
pub fn scaling_points() -> Vec<ScalingPoint> {
    let batches = [1, 4, 16, 64, 256].map(|batch| ImageSizes { batch, ..SIXTEEN });
    let lengths = [4, 16, 64, 256].map(|tokens| ImageSizes { tokens, ..SIXTEEN });
    let widths = [64, 128, 256, 512, 768].map(|width| ImageSizes {
        width,
        heads: width / HEAD_DIM,
        kv_heads: width / HEAD_DIM / 2,
        ..SIXTEEN
    });
    let mut points = Vec::new();
    for work in ScaledWork::ALL {
        for (axis, curve) in AXES.into_iter().zip([&batches[..], &lengths, &widths]) {
            for &sizes in curve {
                points.push(ScalingPoint { work, axis, sizes });
            }
        }
    }
    points
}

impl ScalingPoint {
    /// The size that grows along the curve.
    fn grown(&self) -> usize {
        match self.axis {
            "batch" => self.sizes.batch,
            "length" => self.sizes.tokens,
            _ => self.sizes.width,
        }
    }

    /// The workload of the point.
    pub fn workload(&self) -> Workload {
        match self.work {
            ScaledWork::Step => Workload::ImageLmStep(self.sizes),
            ScaledWork::Sample => Workload::Sample(self.sizes),
        }
    }

    /// Lower bounds for one unit of the point's work.
    pub fn cost(&self) -> Cost {
        self.workload().cost(Precision::F32)
    }
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
    rows: Vec<(ScalingPoint, Measured)>,
}

impl ScalingReport {
    /// An empty report on a device of these rates.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            rows: Vec::new(),
        }
    }

    /// Adds a point. Returns its line of the table.
    pub fn add(&mut self, point: ScalingPoint, measured: Measured) -> String {
        self.rows.push((point, measured));
        self.line(&point, measured)
    }

    fn line(&self, point: &ScalingPoint, measured: Measured) -> String {
        let [operations, bytes] = self.rates.floor_ms(point.cost());
        let ms = measured.milliseconds;
        format!(
            "| {} | {} {} | {ms:.2} | {:.1} | {operations:.2} | {bytes:.2} | {:.1} | {:.0} |",
            point.work.names()[0],
            point.axis,
            point.grown(),
            1e3 * point.sizes.batch as f64 / ms,
            ms / operations.max(bytes),
            measured.bytes / MEBIBYTE
        )
    }

    /// The files of the report: names and texts. `scaling.md` holds the table.
    pub fn files(&self) -> Vec<(String, String)> {
        let mut table = format!(
            "{}\n\n| work | at | ms | images/s | operations ms | bytes ms | time over the larger | MiB |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
            self.rates
        );
        for (point, measured) in &self.rows {
            let _ = writeln!(table, "{}", self.line(point, *measured));
        }
        let mut files = vec![("scaling.md".to_owned(), table)];
        for axis in AXES {
            for work in ScaledWork::ALL {
                let name = format!("scaling-{}-{axis}.svg", work.names()[1]);
                files.push((name, self.times(work, axis)));
            }
            let name = format!("scaling-memory-{axis}.svg");
            files.push((name, self.memory(axis)));
        }
        files
    }

    /// A curve over the logarithm of what grows: its values double and quadruple.
    fn curve(
        &self,
        name: &'static str,
        work: ScaledWork,
        axis: &str,
        value: impl Fn(&ScalingPoint, Measured) -> f64,
    ) -> Series<'static> {
        let own = self.rows.iter();
        let own = own.filter(|(point, _)| (point.work, point.axis) == (work, axis));
        let points = own.map(|(point, measured)| {
            let at = (point.grown() as f64).log2();
            (at, value(point, *measured))
        });
        Series {
            name,
            points: points.collect(),
        }
    }

    fn times(&self, work: ScaledWork, axis: &str) -> String {
        let floors = |point: &ScalingPoint| self.rates.floor_ms(point.cost());
        let series = [
            self.curve("measured, ms", work, axis, |_, own| own.milliseconds),
            self.curve("operations, ms", work, axis, |point, _| floors(point)[0]),
            self.curve("bytes, ms", work, axis, |point, _| floors(point)[1]),
        ];
        let label = format!("{}: log2 of {axis}", work.names()[0]);
        line_chart(&label, &series, true)
    }

    fn memory(&self, axis: &str) -> String {
        let curve = |name, work| self.curve(name, work, axis, |_, own| own.bytes / MEBIBYTE);
        let series = [
            curve("training step, MiB", ScaledWork::Step),
            curve("sampling, MiB", ScaledWork::Sample),
        ];
        line_chart(&format!("log2 of {axis}"), &series, true)
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
        let cost = |work| {
            let axis = "batch";
            ScalingPoint { work, axis, sizes }.cost()
        };
        let step = cost(ScaledWork::Step);
        let heads = 2.0 * 2.0 * 2.0 * (head + timestep);
        assert_eq!(step.operations, 3.0 * 3.0 * (positions + heads));
        let parameters = 4.0 + backbone + head + timestep + 8.0 + 8.0;
        assert_eq!(step.bytes, 44.0 * parameters);

        let sample = cost(ScaledWork::Sample);
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
            let measured = Measured {
                milliseconds: 2.0 * rates.floor_ms(point.cost()).into_iter().fold(0.0, f64::max),
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
