//! The table of the benchmark.

use std::fmt::Write as _;

use latentlm_args::say;

use super::limits::Limit;
use super::side::Measured;

/// Factor over the limit up to which a row meets it.
const MET: f64 = 1.2;

/// A column beside ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    /// The way that was timed, e.g. `eager`.
    pub(super) name: String,
    /// `None` if it failed or is not there.
    pub(super) measured: Option<Measured>,
}

/// Measurements of a workload.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) workload: String,
    pub(super) ours: Option<Measured>,
    /// Ours in float32, in a run in bfloat16.
    pub(super) exact: Option<Column>,
    /// Eager, compiled, and the fastest way of a trial, as far as they were asked for.
    pub(super) others: Vec<Column>,
    pub(super) limit: Option<Limit>,
}

impl Row {
    /// The fastest of the other ways.
    fn best(&self) -> Option<(&str, Measured)> {
        let measured = self
            .others
            .iter()
            .filter_map(|column| Some((column.name.as_str(), column.measured?)));
        measured.min_by(|(_, a), (_, b)| a.milliseconds.total_cmp(&b.milliseconds))
    }

    /// The time of a way, if it was measured.
    fn milliseconds(&self, name: &str) -> Option<f64> {
        let column = self.others.iter().find(|column| column.name == name)?;
        Some(column.measured?.milliseconds)
    }

    /// The line of the table against PyTorch: ours, eager, compiled, best, which that is, ratio to it, the limit,
    /// what limits, the factor over it, whether it is met, memory of ours, of eager PyTorch and of the best.
    pub(super) fn against_pytorch(&self) -> String {
        let ours = self.ours.map(|ours| ours.milliseconds);
        let best = self.best();
        let mut line = format!("| {} |{}", self.workload, self.own_times());
        for time in [
            self.milliseconds("eager"),
            self.milliseconds("compiled"),
            best.map(|(_, measured)| measured.milliseconds),
        ] {
            let _ = write!(line, " {} |", shown(time, 2));
        }
        let ratio = ours
            .zip(best)
            .map(|(ours, (_, best))| ours / best.milliseconds);
        let name = best.map_or("n/a", |(name, _)| name);
        let _ = write!(line, " {name} | {} |", shown(ratio, 2));
        line.push_str(&self.limits());
        let eager = self.others.iter().find(|column| column.name == "eager");
        let eager = eager.and_then(|column| column.measured);
        for side in [self.ours, eager, best.map(|(_, measured)| measured)] {
            let mebibytes = side.map(|side| side.mebibytes);
            let _ = write!(line, " {} |", shown(mebibytes, 0));
        }
        line
    }

    /// The line of the table of ours alone, or against Burn's operations.
    pub(super) fn of_ours(&self) -> String {
        let ours = self.ours.map(|ours| ours.milliseconds);
        let mut line = format!("| {} |{}", self.workload, self.own_times());
        for column in &self.others {
            let theirs = column.measured.map(|theirs| theirs.milliseconds);
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let _ = write!(line, " {} | {} |", shown(theirs, 2), shown(ratio, 2));
        }
        line.push_str(&self.limits());
        let others = self.others.iter().map(|column| column.measured);
        for side in [self.ours].into_iter().chain(others) {
            let mebibytes = side.map(|side| side.mebibytes);
            let _ = write!(line, " {} |", shown(mebibytes, 0));
        }
        line
    }

    /// Cells of our time, and in a run in bfloat16 of our time in float32 and of the ratio to it.
    fn own_times(&self) -> String {
        let ours = self.ours.map(|ours| ours.milliseconds);
        let mut cells = format!(" {} |", shown(ours, 2));
        if let Some(exact) = &self.exact {
            let exact = exact.measured.map(|exact| exact.milliseconds);
            let ratio = ours.zip(exact).map(|(ours, exact)| ours / exact);
            let _ = write!(cells, " {} | {} |", shown(exact, 2), shown(ratio, 2));
        }
        cells
    }

    /// Cells of the limit, of what limits, of our factor over it, and of whether it is met.
    fn limits(&self) -> String {
        let ours = self.ours.map(|ours| ours.milliseconds);
        let limit = self.limit.map(|limit| limit.milliseconds);
        let over = ours.zip(limit).map(|(ours, limit)| ours / limit);
        let of = self.limit.map_or("n/a", |limit| limit.of);
        let met = match over {
            Some(over) if over <= MET => "yes",
            Some(_) => "no",
            None => "n/a",
        };
        format!(" {} | {of} | {} | {met} |", shown(limit, 2), shown(over, 2))
    }
}

/// The table in Markdown. Each line is printed when it is added.
#[derive(Debug, Default)]
pub(super) struct Table(pub(super) String);

impl Table {
    pub(super) fn push(&mut self, line: &str) {
        say!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// A number of a table, or `n/a`.
fn shown(number: Option<f64>, digits: usize) -> String {
    match number {
        Some(number) => format!("{number:.digits$}"),
        None => "n/a".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(milliseconds: f64) -> Option<Measured> {
        Some(Measured {
            milliseconds,
            mebibytes: 8.0,
        })
    }

    fn row(ours: Option<Measured>, others: &[(&str, Option<Measured>)]) -> Row {
        let column = |&(name, measured): &(&str, Option<Measured>)| Column {
            name: name.to_owned(),
            measured,
        };
        Row {
            workload: "work".into(),
            ours,
            exact: None,
            others: others.iter().map(column).collect(),
            limit: Some(Limit {
                milliseconds: 2.0,
                of: "bytes",
            }),
        }
    }

    #[test]
    fn the_ratio_is_that_to_the_fastest() {
        let eager = ("eager", measured(6.0));
        let compiled = ("compiled", measured(4.0));
        let best = ("compiled, flat", measured(2.5));
        for (others, expected) in [
            (
                &[eager, compiled, best][..],
                "| work | 3.00 | 6.00 | 4.00 | 2.50 | compiled, flat | 1.20 | 2.00 | bytes | 1.50 | no | 8 | 8 | 8 |",
            ),
            // A way that was fastest in the trial may be slower in the end.
            (
                &[eager, compiled, ("compiled, flat", measured(4.5))],
                "| work | 3.00 | 6.00 | 4.00 | 4.00 | compiled | 0.75 | 2.00 | bytes | 1.50 | no | 8 | 8 | 8 |",
            ),
            (
                &[eager],
                "| work | 3.00 | 6.00 | n/a | 6.00 | eager | 0.50 | 2.00 | bytes | 1.50 | no | 8 | 8 | 8 |",
            ),
        ] {
            assert_eq!(row(measured(3.0), others).against_pytorch(), expected);
        }
    }

    #[test]
    fn a_side_that_failed_leaves_the_others_numbers() {
        let others = [("eager", None), ("compiled", measured(4.0))];
        assert_eq!(
            row(measured(3.0), &others).against_pytorch(),
            "| work | 3.00 | n/a | 4.00 | 4.00 | compiled | 0.75 | 2.00 | bytes | 1.50 | no | 8 | n/a | 8 |"
        );
        assert_eq!(
            row(None, &others).against_pytorch(),
            "| work | n/a | n/a | 4.00 | 4.00 | compiled | n/a | 2.00 | bytes | n/a | n/a | n/a | n/a | 8 |"
        );
        let nothing = Row {
            limit: None,
            ..row(measured(3.0), &[])
        };
        assert_eq!(
            nothing.against_pytorch(),
            "| work | 3.00 | n/a | n/a | n/a | n/a | n/a | n/a | n/a | n/a | n/a | 8 | n/a | n/a |"
        );
    }

    #[test]
    fn a_limit_is_met_within_a_fifth() {
        for (milliseconds, cells) in [
            (1.9, "| 0.95 | yes |"),
            (2.4, "| 1.20 | yes |"),
            (2.42, "| 1.21 | no |"),
        ] {
            let line = row(measured(milliseconds), &[]).of_ours();
            assert!(line.contains(cells), "{line}");
        }
    }

    /// A codec has no bfloat16 products in training, so none beside float32.
    #[test]
    fn bfloat16_stands_beside_our_own_float32() {
        let beside = |exact, others: &[(&str, Option<Measured>)]| Row {
            exact: Some(Column {
                name: "float32".into(),
                measured: exact,
            }),
            ..row(measured(3.0), others)
        };
        assert_eq!(
            beside(measured(4.0), &[("eager", measured(6.0))]).against_pytorch(),
            "| work | 3.00 | 4.00 | 0.75 | 6.00 | n/a | 6.00 | eager | 0.50 | 2.00 | bytes | 1.50 | no | 8 | 8 | 8 |"
        );
        assert_eq!(
            beside(None, &[]).of_ours(),
            "| work | 3.00 | n/a | n/a | 2.00 | bytes | 1.50 | no | 8 |"
        );
    }

    #[test]
    fn ours_alone_and_against_burn_has_limits_too() {
        assert_eq!(
            row(measured(3.0), &[]).of_ours(),
            "| work | 3.00 | 2.00 | bytes | 1.50 | no | 8 |"
        );
        assert_eq!(
            row(measured(3.0), &[("Burn", measured(6.0))]).of_ours(),
            "| work | 3.00 | 6.00 | 0.50 | 2.00 | bytes | 1.50 | no | 8 | 8 |"
        );
    }
}
