//! Which names can stand on a picture without standing on each other.

/// A name at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label {
    pub(super) point: usize,
    /// Where its baseline starts.
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The room that a name takes.
#[derive(Debug, Clone, Copy)]
struct Rect {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Rect {
    fn meets(&self, other: &Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// How names are set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) font: f64,
    /// The radius of a point.
    pub(super) radius: f64,
}

/// Places names beside their points, the first ones first, each where no other is: to the right,
/// the left, above or below, where it covers the fewest points.
pub(super) fn place(names: &[&str], points: &[[f64; 2]], setting: Setting) -> Vec<Label> {
    let Setting { font, radius, .. } = setting;
    let cell = font * 4.0;
    let mut grid = Grid::new(setting, cell);
    for place in points {
        grid.add(*place);
    }
    let mut labels = Vec::new();
    for (point, (name, [x, y])) in names.iter().zip(points).enumerate() {
        let (wide, gap) = (width(name, font), radius + font * 0.25);
        let starts = [
            (x + gap, y + font * 0.35),
            (x - gap - wide, y + font * 0.35),
            (x - wide / 2.0, y - gap),
            (x - wide / 2.0, y + gap + font * 0.75),
        ];
        let mut best: Option<(usize, Rect, Label)> = None;
        for (left, baseline) in starts {
            let rect = Rect {
                left: left - font * 0.15,
                top: baseline - font * 0.85,
                right: left + wide + font * 0.15,
                bottom: baseline + font * 0.3,
            };
            let inside = rect.left >= 0.0
                && rect.top >= 0.0
                && rect.right <= setting.width
                && rect.bottom <= setting.height;
            if !inside || !grid.is_free(rect) {
                continue;
            }
            let covered = grid.covered(rect);
            if best.is_none_or(|(least, ..)| covered < least) {
                best = Some((covered, rect, Label { point, x: left, y: baseline }));
            }
        }
        if let Some((_, rect, label)) = best {
            grid.take(rect);
            labels.push(label);
        }
    }
    labels
}

/// About how wide a name is: letters of most scripts are half as wide as high, those of the Far
/// East as wide as high.
fn width(name: &str, font: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | '\'' | '.' | ',' | '|' | '!' => 0.36,
        'm' | 'w' | 'M' | 'W' | '…' | '@' => 0.92,
        c if c.is_uppercase() => 0.72,
        '\u{1100}'..='\u{11ff}'
        | '\u{2e80}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{10000}'.. => 1.05,
        _ => 0.6,
    };
    name.chars().map(of).sum::<f64>() * font
}

/// What is taken, and where points are, by cells, so that few are compared.
struct Grid {
    cell: f64,
    columns: usize,
    taken: Vec<Vec<Rect>>,
    points: Vec<Vec<[f64; 2]>>,
}

impl Grid {
    fn new(setting: Setting, cell: f64) -> Self {
        let (columns, rows) = (number(setting.width / cell) + 1, number(setting.height / cell) + 1);
        let cells = columns * rows;
        Grid { cell, columns, taken: vec![Vec::new(); cells], points: vec![Vec::new(); cells] }
    }

    /// The cells of a rectangle that lies in the picture.
    fn cells(&self, rect: Rect) -> impl Iterator<Item = usize> + use<> {
        let across = number(rect.left / self.cell)..=number(rect.right / self.cell);
        let down = number(rect.top / self.cell)..=number(rect.bottom / self.cell);
        let columns = self.columns;
        down.flat_map(move |y| across.clone().map(move |x| y * columns + x))
    }

    /// Adds a point that lies in the picture.
    fn add(&mut self, place: [f64; 2]) {
        let [left, top] = place;
        let at = Rect { left, top, right: left, bottom: top };
        if let Some(cell) = self.cells(at).next() {
            self.points[cell].push(place);
        }
    }

    fn is_free(&self, rect: Rect) -> bool {
        !self.cells(rect).any(|cell| self.taken[cell].iter().any(|other| other.meets(&rect)))
    }

    /// The points in a rectangle.
    fn covered(&self, rect: Rect) -> usize {
        let within = |place: &&[f64; 2]| {
            (rect.left..rect.right).contains(&place[0])
                && (rect.top..rect.bottom).contains(&place[1])
        };
        self.cells(rect).map(|cell| self.points[cell].iter().filter(within).count()).sum()
    }

    fn take(&mut self, rect: Rect) {
        for cell in self.cells(rect) {
            self.taken[cell].push(rect);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not below zero")]
fn number(value: f64) -> usize {
    value.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::needless_for_each
    )]

    use super::*;

    #[test]
    fn names_do_not_stand_on_each_other() {
        let mut state = 4u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        let points: Vec<[f64; 2]> = (0..500).map(|_| [next() * 800.0, next() * 600.0]).collect();
        let words = ["king", "Mississippi", "at", "長長長", "a very long name indeed"];
        let names: Vec<&str> = (0..500).map(|at| words[at % 5]).collect();
        let setting = Setting { width: 800.0, height: 600.0, font: 12.0, radius: 3.0 };
        let labels = place(&names, &points, setting);
        assert!((60..400).contains(&labels.len()), "{}", labels.len());
        assert_eq!(labels[0].point, 0, "the first has room");
        let rect = |label: &Label| Rect {
            left: label.x,
            top: label.y - 12.0 * 0.85,
            right: label.x + width(names[label.point], 12.0),
            bottom: label.y + 12.0 * 0.3,
        };
        for (at, label) in labels.iter().enumerate() {
            let own = rect(label);
            assert!(own.left >= 0.0 && own.right <= 800.0 && own.top >= 0.0 && own.bottom <= 600.0);
            for other in &labels[at + 1..] {
                assert!(!own.meets(&rect(other)), "{label:?}, {other:?}");
            }
        }
    }
}
