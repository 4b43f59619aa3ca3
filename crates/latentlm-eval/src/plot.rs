//! Line charts and bar charts as SVG text.

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 4] = ["#2563eb", "#dc2626", "#059669", "#9333ea"];
/// Reach of the running mean to each side, as a fraction of all points.
const SMOOTHING: f64 = 0.04;
/// Absolute values that labels write in full. An axis with other values is labelled with powers of ten.
const PLAIN: std::ops::Range<f64> = 1e-6..1e7;

/// One curve.
pub struct Series<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// Points `(x, y)` from left to right. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart of curves over a common axis. Curves of many points get a smoothed line over the faint
/// raw one; a curve of one point is a dot.
pub fn line_chart(x_label: &str, series: &[Series<'_>], log_y: bool) -> String {
    let mut curves: Vec<Vec<(f64, f64)>> = Vec::with_capacity(series.len());
    for one in series {
        let mut points = one.points.clone();
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        curves.push(points);
    }
    let points = || curves.iter().flatten();
    let log_y = log_y && points().all(|point| point.1 > 0.0);
    let x = Axis::over(points().map(|point| point.0), false, LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|point| point.1), log_y, HEIGHT - BOTTOM, TOP);
    let mut svg = open(HEIGHT);
    for (at, label) in y.ticks() {
        let right = WIDTH - RIGHT;
        svg += &format!("<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#8884\"/>");
        svg += &text(LEFT - 6.0, at + 4.0, "end", &label);
    }
    for (at, label) in x.ticks() {
        svg += &text(at, HEIGHT - BOTTOM + 16.0, "middle", &label);
    }
    svg += &text(WIDTH - RIGHT, HEIGHT - 6.0, "end", x_label);
    for (i, (one, points)) in series.iter().zip(&curves).enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let line = |points: &[(f64, f64)], opacity: f64| {
            let places = points.iter().map(|point| {
                let (x, y) = (x.place(point.0), y.place(point.1));
                format!("{x:.1} {y:.1}")
            });
            let places: Vec<String> = places.collect();
            format!(
                "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 stroke-opacity=\"{opacity}\"/>",
                places.join("L")
            )
        };
        svg += &match &points[..] {
            [] => String::new(),
            [(px, py)] => {
                let (cx, cy) = (x.place(*px), y.place(*py));
                format!("<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{colour}\"/>")
            }
            _ if points.len() > 40 => line(points, 0.25) + &line(&smooth(points), 1.0),
            _ => line(points, 1.0),
        };
        let (left, top) = (LEFT + 10.0 + 150.0 * i as f64, TOP + 4.0);
        let name = escape(one.name);
        svg += &format!("<text x=\"{left}\" y=\"{top}\" fill=\"{colour}\">{name}</text>");
    }
    svg + "</svg>"
}

/// Horizontal bars from zero, one for each name.
pub fn bar_chart(label: &str, bars: &[(String, f64)]) -> String {
    const BAR: f64 = 22.0;
    const NAMES: f64 = 140.0;
    let largest = bars
        .iter()
        .map(|bar| bar.1)
        .fold(f64::MIN_POSITIVE, f64::max);
    let room = WIDTH - NAMES - RIGHT - 60.0;
    let height = TOP + 1.5 * BAR * bars.len() as f64 + BOTTOM;
    let mut svg = open(height);
    for (i, (name, value)) in bars.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let top = TOP + 1.5 * BAR * i as f64;
        let length = room * value.max(0.0) / largest;
        svg += &text(NAMES - 6.0, top + 15.0, "end", name);
        svg += &format!(
            "<rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
             fill=\"{colour}\"/>"
        );
        let value = short(*value);
        svg += &text(NAMES + length + 6.0, top + 15.0, "start", &value);
    }
    svg + &text(WIDTH - RIGHT, height - 6.0, "end", label) + "</svg>"
}

/// Charts with a title each, one below the other.
pub fn stack(charts: &[(&str, String)]) -> String {
    const TITLE: f64 = 26.0;
    let mut body = String::new();
    let mut top = 0.0;
    for (title, chart) in charts {
        let (title, height) = (escape(title), chart_height(chart));
        let (line, place) = (top + 18.0, top + TITLE);
        body += &format!(
            "<text x=\"{LEFT}\" y=\"{line:.1}\" font-size=\"13\" fill=\"#888\">{title}</text>"
        );
        let place = format!("<svg y=\"{place:.1}\" width=\"{WIDTH}\" height=\"{height}\" ");
        body += &chart.replacen("<svg ", &place, 1);
        top += TITLE + height;
    }
    open(top) + &body + "</svg>"
}

/// The opening tag of a picture.
fn open(height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\" role=\"img\">"
    )
}

/// Grey text. `anchor` is the part of it that lies at `x` and `y`: `start`, `middle` or `end`.
fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    let words = escape(words);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#888\">{words}</text>")
}

/// The height in the tag that [`open`] wrote.
fn chart_height(chart: &str) -> f64 {
    let size = chart.split('"').nth(1).unwrap_or_default();
    let height = size.rsplit(' ').next().unwrap_or_default();
    height.parse().unwrap_or(HEIGHT)
}

/// A running mean.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = ((points.len() as f64 * SMOOTHING) as usize).max(1);
    let mut means = Vec::with_capacity(points.len());
    for (i, (x, _)) in points.iter().enumerate() {
        let window = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
        let mean = window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64;
        means.push((*x, mean));
    }
    means
}

/// An axis of a chart.
struct Axis {
    /// Smallest value.
    low: f64,
    /// Largest value.
    high: f64,
    /// Where the smallest value lies in the picture.
    from: f64,
    /// Where the largest value lies.
    to: f64,
    /// Whether places are proportional to logarithms.
    log: bool,
}

impl Axis {
    /// An axis over finite values. Its two ends are different even if all values are equal.
    fn over(values: impl Iterator<Item = f64>, log: bool, from: f64, to: f64) -> Self {
        let empty = [f64::INFINITY, f64::NEG_INFINITY];
        let [mut low, mut high] = values.fold(empty, |[low, high], v| [low.min(v), high.max(v)]);
        if low > high {
            (low, high) = (1.0, 2.0);
        } else if low == high && log {
            (low, high) = (low / 3.0, high * 3.0);
        } else if low == high {
            // In proportion to the value, or labels would not tell 0.0003 from 0, and 10^17 plus 0.5 is 10^17.
            let half = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
            (low, high) = (low - half, high + half);
        }
        Self {
            low,
            high,
            from,
            to,
            log,
        }
    }

    /// Where a value lies in the picture.
    fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.log { value.log10() } else { value };
        let (low, high) = (scaled(self.low), scaled(self.high));
        self.from + (scaled(value) - low) / (high - low) * (self.to - self.from)
    }

    /// Places and labels of the ticks.
    fn ticks(&self) -> Vec<(f64, String)> {
        let values = if self.log {
            log_ticks(self.low, self.high)
        } else {
            ticks(self.low, self.high)
        };
        let places = values.iter().map(|value| self.place(*value));
        places.zip(labels(&values)).collect()
    }
}

/// Round numbers in a range: four to eight.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Ticks of an axis of logarithms, at most ten: powers of ten, with their doubles and fives where there
/// are few. A range that is narrower has the ticks of a plain axis.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    for multiples in [&[1.0_f64][..], &[1.0, 2.0, 5.0]] {
        let ticks = powers.clone().flat_map(|power| {
            let ticks = multiples.iter();
            ticks.map(move |multiple| multiple * 10f64.powi(power))
        });
        let inside: Vec<f64> = ticks.filter(|tick| (low..=high).contains(tick)).collect();
        if inside.len() > 2 {
            let every = inside.len().div_ceil(10);
            return inside.into_iter().step_by(every).collect();
        }
    }
    ticks(low, high)
}

/// Labels of ticks, no two alike: plain numbers, or powers of ten where one of these would be long.
fn labels(ticks: &[f64]) -> Vec<String> {
    let steps = ticks.windows(2).map(|pair| pair[1] - pair[0]);
    let step = steps.fold(f64::INFINITY, f64::min);
    let plain = ticks
        .iter()
        .all(|tick| *tick == 0.0 || PLAIN.contains(&tick.abs()));
    let mut labels = Vec::with_capacity(ticks.len());
    for &tick in ticks {
        let number = shortest(tick, 1e-3 * step.min(tick.abs()), plain);
        labels.push(if plain {
            with_commas(&number)
        } else {
            power_of_ten(&number)
        });
    }
    labels
}

/// A number with at most three decimals, or two to three digits where these decimals would show fewer: 0.0004 is not 0.
fn short(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    if !number.is_finite() {
        return number.to_string();
    }
    let plain = PLAIN.contains(&number.abs());
    let text = shortest(number, 5e-4_f64.min(5e-3 * number.abs()), plain);
    if plain { text } else { power_of_ten(&text) }
}

/// A number with some decimals, as in a column of a table; with two to three digits if all these decimals would be zeros
/// and the number is not 0.
pub fn decimals(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let is_zero = text.parse::<f64>().is_ok_and(|shown| shown == 0.0);
    if is_zero && number != 0.0 {
        short(number)
    } else {
        text
    }
}

/// A number with the fewest digits, at most 15 after the point, whose error is within `tolerance`: plain or
/// as `1e3`.
fn shortest(number: f64, tolerance: f64, plain: bool) -> String {
    let mut digits = 0_usize;
    loop {
        let text = if plain {
            format!("{number:.digits$}")
        } else {
            format!("{number:.digits$e}")
        };
        let read = text.parse().unwrap_or(f64::INFINITY);
        if digits == 15 || (read - number).abs() <= tolerance {
            return text;
        }
        digits += 1;
    }
}

/// `1,000` for `1000`.
fn with_commas(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (index, digit) in number.chars().enumerate() {
        let behind_digit = text.ends_with(|c: char| c.is_ascii_digit());
        if index < whole && (whole - index).is_multiple_of(3) && behind_digit {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `2.5·10^-7` for `2.5e-7`.
fn power_of_ten(number: &str) -> String {
    match number.split_once('e') {
        Some(("0", _)) | None => "0".into(),
        Some(("1", power)) => format!("10^{power}"),
        Some((factor, power)) => format!("{factor}·10^{power}"),
    }
}

/// Escapes text for HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(
            ticks(0.0, 1000.0),
            [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
        );
        let got = ticks(-0.13, 0.41);
        assert!(
            got.iter().all(|t| (-0.13..=0.41).contains(t)) && got.len() >= 3,
            "{got:?}"
        );
    }

    /// A chart of points at the steps 1, 2 and so on.
    fn chart(values: &[f64], log_y: bool) -> String {
        let points = values.iter().zip(1_i32..).map(|(y, x)| (f64::from(x), *y));
        let series = Series {
            name: "a<b",
            points: points.collect(),
        };
        line_chart("step", &[series], log_y)
    }

    /// Labels of the vertical axis, from below.
    fn y_labels(svg: &str) -> Vec<&str> {
        let labels = svg.split("text-anchor=\"end\" fill=\"#888\">").skip(1);
        let mut labels: Vec<&str> = labels.filter_map(|text| text.split('<').next()).collect();
        assert_eq!(labels.pop(), Some("step"));
        labels
    }

    #[test]
    fn labels_have_the_digits_they_need() {
        for (values, log_y, expected) in [
            (
                &[0.0, 0.002][..],
                false,
                &["0", "0.0005", "0.001", "0.0015", "0.002"][..],
            ),
            (&[-0.5, 0.5], false, &["-0.4", "-0.2", "0", "0.2", "0.4"]),
            (&[-1500.0, 1500.0], false, &["-1,000", "0", "1,000"]),
            (&[1.0, 1000.0], true, &["1", "10", "100", "1,000"]),
            (
                &[0.02, 3.0],
                true,
                &["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"],
            ),
            (
                &[3.0, 800.0],
                true,
                &["5", "10", "20", "50", "100", "200", "500"],
            ),
            (&[3.0, 9.0], true, &["4", "6", "8"]),
            (&[1e-8, 1e-6], true, &["10^-8", "10^-7", "10^-6"]),
            (
                &[0.0, 4e-7],
                false,
                &["0", "10^-7", "2·10^-7", "3·10^-7", "4·10^-7"],
            ),
            // Constant curves.
            (&[0.0], false, &["-0.4", "-0.2", "0", "0.2", "0.4"]),
            (&[3e-4, 3e-4], false, &["0.0002", "0.0003", "0.0004"]),
            (&[3e17], false, &["2·10^17", "3·10^17", "4·10^17"]),
        ] {
            assert_eq!(y_labels(&chart(values, log_y)), expected, "{values:?}");
        }
    }

    /// Also where a range is narrow and far from zero.
    #[test]
    fn no_two_labels_of_an_axis_are_alike() {
        for log_y in [false, true] {
            for low in [1e-9, 0.0012, 0.7, 1.0, 86.4, 1e5, 3e12] {
                for width in [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e5] {
                    let svg = chart(&[low, low + width * low], log_y);
                    let labels = y_labels(&svg);
                    let different: HashSet<&&str> = labels.iter().collect();
                    assert_eq!(different.len(), labels.len(), "{labels:?}");
                    assert!((2..12).contains(&labels.len()), "{low} {width}: {labels:?}");
                }
            }
        }
    }

    /// Values of a half, a thousandth and less are told from 0.
    #[test]
    fn numbers_that_are_not_0_show_digits() {
        let bar = |value: f64| {
            let svg = bar_chart("speed", &[("a".to_owned(), value)]);
            let values = svg.split("text-anchor=\"start\" fill=\"#888\">").nth(1);
            values.unwrap().split('<').next().unwrap().to_owned()
        };
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (2.0, "2"),
            (0.5, "0.5"),
            (0.1234, "0.123"),
            (1234.5678, "1234.568"),
            (0.0126, "0.0126"),
            (0.0004, "0.0004"),
            (-0.000_123_4, "-0.000123"),
            (1e-6, "0.000001"),
            (2.5e-9, "2.5·10^-9"),
            (1e9, "10^9"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(bar(value), expected, "{value}");
        }
        for (value, places, expected) in [
            (0.0, 3, "0.000"),
            (0.5, 3, "0.500"),
            (0.000_44, 3, "0.00044"),
            (0.0006, 3, "0.001"),
            (0.3, 0, "0.3"),
            (12.0, 0, "12"),
        ] {
            assert_eq!(decimals(value, places), expected, "{value}");
        }
    }

    #[test]
    fn charts_are_stacked_without_overlap() {
        let bars = [("a".to_owned(), 2.0), ("b".to_owned(), 0.0)];
        let bar = bar_chart("images a second", &bars);
        let line = line_chart("step", &[], false);
        assert_eq!((chart_height(&bar), chart_height(&line)), (122.0, 300.0));
        let both = stack(&[("speed", bar), ("quality", line)]);
        assert!(both.starts_with("<svg viewBox=\"0 0 640 474\""), "{both}");
        assert!(both.contains("<svg y=\"26.0\"") && both.contains("<svg y=\"174.0\""));
        assert_eq!(both.matches("<svg").count(), both.matches("</svg>").count());
    }

    #[test]
    fn empty_and_constant_curves_are_drawn() {
        for values in [&[][..], &[2.0], &[2.0, 2.0], &[1.0, f64::NAN]] {
            for log_y in [false, true] {
                let svg = chart(values, log_y);
                assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a&lt;b"));
            }
        }
    }

    #[test]
    fn a_single_point_is_a_dot() {
        let dot = "<circle cx=\"342.0\" cy=\"138.0\" r=\"3\" fill=\"#2563eb\"/>";
        assert!(chart(&[2.0], false).contains(dot));
        assert!(chart(&[f64::NAN, 2.0], true).contains(dot));
        assert!(!chart(&[2.0, 3.0], false).contains("<circle"));
    }
}
