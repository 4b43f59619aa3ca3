//! Line charts and bar charts as SVG text.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 4] = ["#2563eb", "#dc2626", "#059669", "#9333ea"];
/// Reach of the running mean to each side, as a fraction of all points.
const SMOOTHING: f64 = 0.04;

/// One curve.
pub struct Series<'a> {
    /// Name in the legend.
    pub name: &'a str,
    /// Points `(x, y)` from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart of curves over a common axis. Curves of many points get a smoothed line over the faint
/// raw one.
pub fn line_chart(x_label: &str, series: &[Series<'_>], log_y: bool) -> String {
    let log_y = log_y && series.iter().all(|s| s.points.iter().all(|p| p.1 > 0.0));
    let scale = |y: f64| if log_y { y.log10() } else { y };
    let points = || series.iter().flat_map(|s| &s.points);
    let (x0, x1) = range(points().map(|p| p.0));
    let (y0, y1) = range(points().map(|p| scale(p.1)));
    let x = |v: f64| LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(HEIGHT);
    for tick in ticks(y0, y1) {
        let value = if log_y { 10f64.powf(tick) } else { tick };
        let (at, right) = (y(tick), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#8884\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\" fill=\"#888\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            number(value)
        );
    }
    for tick in ticks(x0, x1) {
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#888\">{}</text>",
            x(tick),
            HEIGHT - BOTTOM + 16.0,
            number(tick)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#888\">{}</text>",
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        escape(x_label)
    );
    for (i, one) in series.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let place = |points: &[(f64, f64)]| {
            let mut path = String::new();
            for (j, (px, py)) in points.iter().enumerate() {
                let command = if j == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", x(*px), y(scale(*py)));
            }
            path
        };
        let noisy = one.points.len() > 40;
        let faint = if noisy { 0.25 } else { 1.0 };
        let mut draw = |path: String, opacity: f64| {
            let _ = write!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
                 stroke-opacity=\"{opacity}\"/>"
            );
        };
        draw(place(&one.points), faint);
        if noisy {
            draw(place(&smooth(&one.points)), 1.0);
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{}</text>",
            LEFT + 10.0 + 150.0 * i as f64,
            TOP + 4.0,
            escape(one.name)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Horizontal bars from zero, one for each name.
pub fn bar_chart(label: &str, bars: &[(String, f64)]) -> String {
    const BAR: f64 = 22.0;
    const NAMES: f64 = 140.0;
    let largest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let room = WIDTH - NAMES - RIGHT - 60.0;
    let height = TOP + 1.5 * BAR * bars.len() as f64 + BOTTOM;
    let mut svg = open(height);
    for (i, (name, value)) in bars.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let top = TOP + 1.5 * BAR * i as f64;
        let length = if largest > 0.0 {
            room * value.max(0.0) / largest
        } else {
            0.0
        };
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#888\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" \
             fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#888\">{}</text>",
            NAMES - 6.0,
            top + 15.0,
            escape(name),
            NAMES + length + 6.0,
            top + 15.0,
            number(*value)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#888\">{}</text></svg>",
        WIDTH - RIGHT,
        height - 6.0,
        escape(label)
    );
    svg
}

/// Charts with a title each, one below the other.
pub fn stack(charts: &[(&str, String)]) -> String {
    const TITLE: f64 = 26.0;
    let mut body = String::new();
    let mut top = 0.0;
    for (title, chart) in charts {
        let height = chart_height(chart);
        let place = format!(
            "<svg y=\"{:.1}\" width=\"{WIDTH}\" height=\"{height}\" ",
            top + TITLE
        );
        let _ = write!(
            body,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"13\" fill=\"#888\">{}</text>{}",
            top + 18.0,
            escape(title),
            chart.replacen("<svg ", &place, 1)
        );
        top += TITLE + height;
    }
    format!("{}{body}</svg>", open(top))
}

/// The opening tag of an SVG picture.
fn open(height: f64) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\" \
         font-family=\"system-ui,sans-serif\" font-size=\"11\" role=\"img\">"
    )
}

/// The height in the opening tag that [`open`] wrote.
fn chart_height(chart: &str) -> f64 {
    let size = chart
        .split('"')
        .nth(1)
        .and_then(|size| size.rsplit(' ').next());
    size.and_then(|height| height.parse().ok())
        .unwrap_or(HEIGHT)
}

/// A running mean.
fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = ((points.len() as f64 * SMOOTHING) as usize).max(1);
    (0..points.len())
        .map(|i| {
            let window = &points[i.saturating_sub(reach)..(i + reach + 1).min(points.len())];
            let mean = window.iter().map(|p| p.1).sum::<f64>() / window.len() as f64;
            (points[i].0, mean)
        })
        .collect()
}

/// Smallest and largest value, made different if they are equal.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
    match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => (low, high),
        Some(std::cmp::Ordering::Equal) => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
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

/// A short text for a number.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 && value.fract() == 0.0 {
        format!("{value:.0}")
    } else if size != 0.0 && size < 0.01 {
        format!("{value:.0e}")
    } else {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
        for points in [vec![], vec![(1.0, 2.0)], vec![(1.0, 2.0), (2.0, 2.0)]] {
            let series = Series {
                name: "a<b",
                points,
            };
            let svg = line_chart("step", &[series], true);
            assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.contains("a&lt;b"));
        }
    }
}
