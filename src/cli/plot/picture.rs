//! What is drawn, whatever draws it.

use anyhow::Result;
use embmap::Table;

use super::super::html::is_unfit;

/// The characters of a token that are shown.
const LONGEST: usize = 48;

/// The neighbours of a point that a page tells.
pub(super) const TOLD: usize = 10;

/// Points with their names, on a plane from 0 to 1.
pub(super) struct Picture {
    /// The table's name, and what is seen of it.
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) points: Vec<Point>,
    /// The names of clusters: their most typical points.
    pub(super) clusters: Vec<String>,
}

pub(super) struct Point {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) place: [f64; 2],
    pub(super) cluster: usize,
    /// Others near it in the table, and how near, the nearest first.
    pub(super) near: Vec<(usize, f32)>,
}

/// Turns places so that they are widest across, as screens are: a layout has no top.
pub(super) fn turned(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let count = super::points::real(places.len().max(1));
    let mean = [0, 1].map(|axis| places.iter().map(|place| place[axis]).sum::<f64>() / count);
    let apart = places.iter().map(|place| [place[0] - mean[0], place[1] - mean[1]]);
    let apart: Vec<[f64; 2]> = apart.collect();
    let product = |a: usize, b: usize| apart.iter().map(|it| it[a] * it[b]).sum::<f64>();
    let angle = 0.5 * (2.0 * product(0, 1)).atan2(product(0, 0) - product(1, 1));
    let (sine, cosine) = angle.sin_cos();
    let turn = |it: [f64; 2]| [cosine * it[0] + sine * it[1], cosine * it[1] - sine * it[0]];
    apart.into_iter().map(turn).collect()
}

/// Brings places to a square from 0 to 1, the longer side filling it, and turns them so that the
/// second axis goes down, as pages do.
pub(super) fn fitted(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let bound = |axis: usize, pick: fn(f64, f64) -> f64, start: f64| {
        places.iter().fold(start, |found, place| pick(found, place[axis]))
    };
    let low = [0, 1].map(|axis| bound(axis, f64::min, f64::INFINITY));
    let high = [0, 1].map(|axis| bound(axis, f64::max, f64::NEG_INFINITY));
    let side = (high[0] - low[0]).max(high[1] - low[1]);
    let fit = |place: &[f64; 2]| {
        let at = |axis: usize| {
            let middle = f64::midpoint(low[axis], high[axis]);
            if side > 0.0 { 0.5 + (place[axis] - middle) / side } else { 0.5 }
        };
        [at(0), 1.0 - at(1)]
    };
    places.iter().map(fit).collect()
}

/// The name of a row: its token as it may be shown, or its number.
pub(super) fn name_of(table: &Table, id: u64) -> Result<String> {
    Ok(table.token(id)?.map_or_else(|| format!("#{id}"), |token| shown(&token)))
}

/// A token without what would not show, or show something else: such characters by their
/// numbers, the rest of what is very long by a sign. An empty token is told as such.
pub(super) fn shown(token: &str) -> String {
    if token.is_empty() {
        return "(empty)".to_owned();
    }
    let mut shown = String::new();
    for (at, c) in token.chars().enumerate() {
        if at == LONGEST {
            shown.push('…');
            break;
        }
        if is_unfit(c) || c.is_whitespace() && c != ' ' {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    if shown.chars().all(|c| c == ' ') { format!("\"{shown}\"") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fill_a_square() {
        let fit = fitted(&[[0.0, 0.0], [4.0, 1.0], [2.0, 2.0]]);
        assert_eq!(fit, [[0.0, 0.75], [1.0, 0.5], [0.5, 0.25]]);
        assert_eq!(fitted(&[[3.0, -3.0]; 2]), [[0.5, 0.5]; 2]);
        assert!(fitted(&[]).is_empty());
    }

    #[test]
    fn places_are_turned_to_lie_across() {
        let turned = turned(&[[1.0, 1.0], [2.0, 3.0], [3.0, 5.0], [4.0, 7.0]]);
        assert!(turned.iter().all(|place| place[1].abs() < 1e-9), "{turned:?}");
        let length = 5f64.sqrt();
        assert!((turned[1][0] - turned[0][0] - length).abs() < 1e-9);
        assert!(super::turned(&[]).is_empty());
    }

    #[test]
    fn tokens_show_for_what_they_are() {
        assert_eq!(shown("cat"), "cat");
        assert_eq!(shown("</script>"), "</script>");
        assert_eq!(shown("a\u{202e}b\n\u{0}"), "a\\u{202e}b\\u{a}\\u{0}");
        assert_eq!(shown(""), "(empty)");
        assert_eq!(shown("  "), "\"  \"");
        assert_eq!(shown(&"長".repeat(60)), format!("{}…", "長".repeat(48)));
    }
}
