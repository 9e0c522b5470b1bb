//! Figures as a chart: an SVG that fits light and dark pages.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Result;

use super::super::output::Output;
use super::super::tensors::file_name;
use super::report::Report;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// The area of the lines: left, top, right, bottom.
const AREA: [f64; 4] = [70.0, 56.0, 560.0, 360.0];

/// From how many times the least rate on the largest needs a scale of decades.
const DECADES: f64 = 12.0;

/// Colours that are told apart with any eyes, on light and on dark ground.
const COLORS: [(&str, &str); 6] = [
    ("#0b62a4", "#5ab4f0"),
    ("#b5500b", "#f0a05a"),
    ("#0f7a53", "#4fd0a0"),
    ("#8f3b8f", "#dd8fdd"),
    ("#6b6b00", "#d0d04f"),
    ("#a01c3c", "#f07f97"),
];

/// The configurations of one state and one number of threads.
pub(super) struct Series {
    name: String,
    points: Vec<Point>,
}

/// Rows a batch, bytes a second, and the same at the limit.
type Point = (f64, f64, Option<f64>);

/// Draws what was measured and publishes the file.
pub(super) fn write(mut out: Output, report: &Report<'_>) -> Result<()> {
    out.write_all(svg(&report.title(&file_name(report.path())), &series(report)).as_bytes())?;
    out.finish()
}

#[allow(clippy::cast_precision_loss, reason = "places in a picture")]
fn series(report: &Report<'_>) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for figures in &report.figures {
        let Ok(found) = &figures.found else { continue };
        let threads = if figures.threads == 1 { "thread" } else { "threads" };
        let name = format!("{}, {} {threads}", figures.state, figures.threads);
        let bytes_a_row = found.bytes_per_second / found.rows_per_second;
        let limit = found.limit().map(|(_, rows_per_second)| rows_per_second * bytes_a_row);
        let point = (figures.batch as f64, found.bytes_per_second, limit);
        match all.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => all.push(Series { name, points: vec![point] }),
        }
    }
    for series in &mut all {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    all
}

/// How values lie along an axis.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    decades: bool,
    start: f64,
    end: f64,
}

impl Axis {
    fn place(self, value: f64) -> f64 {
        let at = |value: f64| if self.decades { value.log10() } else { value };
        let (low, high) = (at(self.low), at(self.high));
        let part = if high > low { (at(value) - low) / (high - low) } else { 0.5 };
        self.start + part * (self.end - self.start)
    }
}

fn svg(title: &str, all: &[Series]) -> String {
    let mut text = head(title);
    let points = || all.iter().flat_map(|series| &series.points);
    let rates = || points().flat_map(|point| [Some(point.1), point.2]).flatten();
    let least = rates().fold(f64::INFINITY, f64::min);
    let most = rates().fold(0.0, f64::max);
    if !(least > 0.0 && least <= most && most.is_finite()) {
        line(&mut text, "<text x=\"70\" y=\"200\">nothing was measured</text>\n</svg>");
        return text;
    }
    let decades = most / least > DECADES;
    let low = if decades { 10f64.powf(least.log10().floor()) } else { 0.0 };
    let high = if decades { 10f64.powf(most.log10().ceil()) } else { most * 1.08 };
    let [left, top, right, bottom] = AREA;
    let y = Axis { low, high, decades, start: bottom, end: top };
    let sizes = || points().map(|point| point.0);
    let x = Axis {
        low: sizes().fold(f64::INFINITY, f64::min),
        high: sizes().fold(0.0, f64::max),
        decades: true,
        start: left + 20.0,
        end: right - 20.0,
    };
    axes(&mut text, x, y, sizes().collect());
    for (index, series) in all.iter().enumerate() {
        let class = format!("c{}", index % COLORS.len());
        let path = |rate: fn(&Point) -> Option<f64>| {
            let places = series.points.iter().filter_map(|point| {
                Some(format!("{:.1},{:.1}", x.place(point.0), y.place(rate(point)?)))
            });
            places.collect::<Vec<_>>()
        };
        let limits = path(|point| point.2).join(" ");
        line(&mut text, &format!("<polyline class=\"{class} limit\" points=\"{limits}\"/>"));
        let places = path(|point| Some(point.1));
        line(&mut text, &format!("<polyline class=\"{class}\" points=\"{}\"/>", places.join(" ")));
        for (place, point) in places.iter().zip(&series.points) {
            let (cx, cy) = place.split_once(',').unwrap_or_default();
            let tip = format!("{}: batch {}, {} GB/s", series.name, point.0, short(point.1 / 1e9));
            let tip = escaped(&tip);
            line(
                &mut text,
                &format!(
                    "<circle class=\"{class}\" cx=\"{cx}\" cy=\"{cy}\" r=\"4\"><title>{tip}</title></circle>"
                ),
            );
        }
        legend(&mut text, index, &class, &series.name, false);
    }
    legend(&mut text, all.len(), "c-limit", "their limits", true);
    line(&mut text, "</svg>");
    text
}

fn head(title: &str) -> String {
    let mut style = String::new();
    let mut dark = String::new();
    for (index, (light_color, dark_color)) in COLORS.iter().enumerate() {
        for (style, color) in [(&mut style, light_color), (&mut dark, dark_color)] {
            line(style, &format!(".c{index} {{ stroke: {color}; }}"));
            line(style, &format!("circle.c{index} {{ fill: {color}; }}"));
        }
    }
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <style>\n\
         svg {{ background: #ffffff; }}\n\
         text {{ font: 13px system-ui, sans-serif; fill: #24292f; }}\n\
         .grid {{ stroke: #d0d7de; stroke-width: 1; }}\n\
         .c-limit {{ stroke: #57606a; }}\n\
         {style}\
         polyline {{ fill: none; stroke-width: 2; stroke-linejoin: round; }}\n\
         .limit {{ stroke-dasharray: 5 4; stroke-width: 1.5; }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         svg {{ background: #0d1117; }}\n\
         text {{ fill: #e6edf3; }}\n\
         .grid {{ stroke: #30363d; }}\n\
         .c-limit {{ stroke: #8b949e; }}\n\
         {dark}\
         }}\n\
         </style>\n\
         <text x=\"16\" y=\"26\">{title}</text>\n\
         <text x=\"16\" y=\"46\">GB/s</text>\n"
    )
}

fn axes(text: &mut String, x: Axis, y: Axis, mut sizes: Vec<f64>) {
    let [left, _, right, bottom] = AREA;
    for value in ticks(y) {
        let place = y.place(value);
        line(
            text,
            &format!(
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>"
            ),
        );
        let (at, value) = (place + 4.0, short(value / 1e9));
        line(
            text,
            &format!("<text x=\"{}\" y=\"{at:.1}\" text-anchor=\"end\">{value}</text>", left - 8.0),
        );
    }
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    // Names that would stand on each other are left out.
    let mut end = f64::NEG_INFINITY;
    for size in sizes {
        let place = x.place(size);
        if place - end < 56.0 {
            continue;
        }
        end = place;
        line(
            text,
            &format!(
                "<text x=\"{place:.1}\" y=\"{}\" text-anchor=\"middle\">{size}</text>",
                bottom + 20.0
            ),
        );
    }
    let middle = f64::midpoint(left, right);
    line(
        text,
        &format!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">rows a batch</text>",
            bottom + 42.0
        ),
    );
}

/// Round values along the axis of rates.
fn ticks(axis: Axis) -> Vec<f64> {
    if axis.decades {
        return std::iter::successors(Some(axis.low), |value| Some(value * 10.0))
            .take_while(|value| *value <= axis.high * 1.001)
            .collect();
    }
    let rough = axis.high / 5.0;
    let decade = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    let step = steps.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    std::iter::successors(Some(0.0), |value| Some(value + step))
        .take_while(|value| *value <= axis.high)
        .collect()
}

fn legend(text: &mut String, index: usize, class: &str, name: &str, dashed: bool) {
    #[allow(clippy::cast_precision_loss, reason = "places in a picture")]
    let y = AREA[1] + 10.0 + 22.0 * index as f64;
    let x = AREA[2] + 16.0;
    let limit = if dashed { " limit" } else { "" };
    let end = x + 22.0;
    line(text, &format!("<polyline class=\"{class}{limit}\" points=\"{x},{y} {end},{y}\"/>"));
    let name = escaped(name);
    line(text, &format!("<text x=\"{}\" y=\"{}\">{name}</text>", end + 8.0, y + 4.0));
}

/// A number of at most three digits that matter, without zeros at its end.
fn short(value: f64) -> String {
    let digits = match value {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        value if value >= 0.01 => 4,
        _ => 6,
    };
    let shown = format!("{value:.digits$}");
    if shown.contains('.') {
        return shown.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    shown
}

/// A text as XML takes it: names of files may hold anything.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to write these.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(all: &[Series]) -> String {
        let text = svg("a <b> & \"c\"\u{1b}\u{ffff}", all);
        let parsed =
            roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let title = parsed.descendants().find(|node| node.has_tag_name("title")).unwrap();
        assert_eq!(title.text(), Some("a <b> & \"c\"\u{fffd}\u{fffd}"));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        text
    }

    #[test]
    fn charts_are_xml_whatever_they_show() {
        let series = |name: &str, points| Series { name: name.to_owned(), points };
        assert!(drawn(&[]).contains("nothing was measured"));
        let one = drawn(&[series("one", vec![(64.0, 5e9, None)])]);
        assert_eq!(one.matches("<circle").count(), 1);
        let wide = drawn(&[
            series("warm", vec![(64.0, 5e9, Some(6e9)), (4096.0, 9e9, Some(9e9))]),
            series("cold", vec![(64.0, 5e6, Some(8e6)), (4096.0, 9e7, None)]),
        ]);
        assert_eq!(wide.matches("<circle").count(), 4);
        assert!(wide.contains("prefers-color-scheme: dark"));
    }

    #[test]
    #[allow(clippy::float_cmp, reason = "what is compared is exact")]
    fn axes_have_round_numbers() {
        let axis = |low, high, decades| Axis { low, high, decades, start: 0.0, end: 100.0 };
        assert_eq!(ticks(axis(0.0, 9.0, false)), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(axis(1.0, 1000.0, true)), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(axis(1.0, 100.0, true).place(10.0), 50.0);
        assert_eq!([0.0, 2.5, 10.0, 123.4, 0.05].map(short), ["0", "2.5", "10", "123", "0.05"]);
    }
}
