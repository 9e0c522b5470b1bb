//! The picture for papers: an SVG that fits light and dark pages.

use std::fmt::Write as _;

use super::super::html::escaped;
use super::labels::{Setting, place};
use super::page::COLORS;
use super::picture::Picture;

/// The picture's size, without the names of clusters below.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 720.0;
const MARGIN: f64 = 28.0;

/// A line of the names of clusters, and how many stand beside each other.
const LINE: f64 = 20.0;
const COLUMNS: usize = 4;

pub(super) fn svg(picture: &Picture) -> String {
    let lines = picture.clusters.len().div_ceil(COLUMNS);
    let below = super::points::real(lines) * LINE + if lines > 0 { 24.0 } else { 0.0 };
    let count = picture.points.len();
    let (radius, font) = if count > 3000 { (1.6, 9.0) } else { (3.0, 12.0) };
    let mut text = head(picture, HEIGHT + below, font);
    let places = spread(picture);
    for (cluster, color) in picture.clusters.iter().zip(0..) {
        line(&mut text, &format!("<g class=\"c{color}\">"));
        for (point, [x, y]) in picture.points.iter().zip(&places) {
            if point.cluster == color {
                line(&mut text, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"));
            }
        }
        line(&mut text, "</g>");
        let (column, row) = (color % COLUMNS, color / COLUMNS);
        let x = MARGIN + super::points::real(column) * (WIDTH - 2.0 * MARGIN) / 4.0;
        let y = HEIGHT + 16.0 + super::points::real(row) * LINE;
        let name = escaped(&cut(cluster));
        line(&mut text, &format!("<circle class=\"c{color}\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/>"));
        line(
            &mut text,
            &format!("<text class=\"faint\" x=\"{}\" y=\"{}\">{name}</text>", x + 10.0, y + 4.0),
        );
    }
    let names: Vec<&str> = picture.points.iter().map(|point| point.name.as_str()).collect();
    let setting = Setting { width: WIDTH, height: HEIGHT, font, radius };
    for label in place(&names, &places, setting) {
        let name = escaped(names[label.point]);
        line(&mut text, &format!("<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", label.x, label.y));
    }
    text + "</svg>\n"
}

/// Points over the whole picture: on a page for print, nothing is gained by equal axes.
fn spread(picture: &Picture) -> Vec<[f64; 2]> {
    let places = || picture.points.iter().map(|point| point.place);
    let fit = |axis: usize, size: f64| {
        let low = places().map(|place| place[axis]).fold(f64::INFINITY, f64::min);
        let high = places().map(|place| place[axis]).fold(f64::NEG_INFINITY, f64::max);
        let room = size - 2.0 * MARGIN;
        move |value: f64| {
            MARGIN + if high > low { (value - low) / (high - low) * room } else { room / 2.0 }
        }
    };
    let (x, y) = (fit(0, WIDTH), fit(1, HEIGHT));
    places().map(|place| [x(place[0]), y(place[1])]).collect()
}

/// The start of a name that has a quarter of a line.
fn cut(name: &str) -> String {
    const MOST: usize = 34;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

fn head(picture: &Picture, height: f64, font: f64) -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for (index, (light_color, dark_color)) in COLORS.iter().enumerate() {
        _ = write!(light, ".c{index}{{fill:{light_color}}}");
        _ = write!(dark, ".c{index}{{fill:{dark_color}}}");
    }
    let (title, subtitle) = (escaped(&picture.title), escaped(&picture.subtitle));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <desc>{subtitle}</desc>\n\
         <style>\n\
         text{{font:{font}px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;\
         fill:#24262b;paint-order:stroke;stroke:#fff;stroke-width:2.5px;stroke-linejoin:round}}\n\
         .faint{{fill:#666b75;font-size:12px}}circle{{fill-opacity:.85}}{light}\n\
         @media (prefers-color-scheme:dark){{text{{fill:#e6e4df;stroke:#15171b}}\
         .faint{{fill:#a2a7b1}}{dark}}}\n\
         </style>\n"
    )
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::hostile;
    use super::*;

    #[test]
    fn pictures_are_xml_whatever_tokens_are() {
        for count in [1, 40] {
            let text = svg(&hostile(count));
            let parsed =
                roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let circles = parsed.descendants().filter(|node| node.has_tag_name("circle"));
            assert_eq!(circles.count(), count + 2, "and one for each cluster's name");
            assert!(parsed.descendants().any(|node| node.text() == Some("</script><b>'\"&")));
            assert!(!text.contains("NaN") && text.contains("prefers-color-scheme:dark"));
        }
    }
}
