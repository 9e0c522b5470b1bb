//! What pushes points apart, summed up over squares of them (Barnes and Hut, "A hierarchical
//! O(N log N) force-calculation algorithm", 1986; van der Maaten, "Accelerating t-SNE using
//! tree-based algorithms", 2014).

use super::points::real;

/// The side of a square over its distance below which its points count as one.
const THETA: f64 = 0.5;

/// The halvings after which points count as lying at one place.
const DEEPEST: usize = 48;

struct Node {
    /// The mean of its points.
    centre: [f64; 2],
    count: f64,
    /// The square of its side.
    side_squared: f64,
    children: [u32; 4],
}

/// Points on a plane, in squares that are halved until each holds one.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The square that each point lies in alone, or with those at its place.
    leaves: Vec<u32>,
}

/// No child; the root is nobody's.
const NONE: u32 = 0;

/// The push on a point, not yet divided by the sum of all similarities, and its part of that.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Push {
    pub(super) force: [f64; 2],
    pub(super) sum: f64,
}

impl Push {
    fn add(&mut self, from: [f64; 2], by: [f64; 2], count: f64) {
        let apart = [from[0] - by[0], from[1] - by[1]];
        let similarity = (1.0 + apart[0] * apart[0] + apart[1] * apart[1]).recip();
        self.sum += count * similarity;
        let factor = count * similarity * similarity;
        self.force[0] += factor * apart[0];
        self.force[1] += factor * apart[1];
    }
}

impl Tree {
    pub(super) fn of(places: &[[f64; 2]]) -> Self {
        let mut tree = Tree { nodes: Vec::new(), leaves: vec![NONE; places.len()] };
        let mut points: Vec<u32> = (0..).take(places.len()).collect();
        let bound = |axis: usize, pick: fn(f64, f64) -> f64, start: f64| {
            places.iter().fold(start, |found, place| pick(found, place[axis]))
        };
        let low = [0, 1].map(|axis| bound(axis, f64::min, f64::INFINITY));
        let high = [0, 1].map(|axis| bound(axis, f64::max, f64::NEG_INFINITY));
        if !places.is_empty() {
            let side = (high[0] - low[0]).max(high[1] - low[1]);
            tree.add(places, &mut points, low, side, 0);
        }
        tree
    }

    /// Adds the square at a corner that holds some points, and gives its number.
    fn add(
        &mut self,
        places: &[[f64; 2]],
        points: &mut [u32],
        corner: [f64; 2],
        side: f64,
        depth: usize,
    ) -> u32 {
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let mut centre = [0.0; 2];
        for point in &*points {
            let place = places[*point as usize];
            centre = [centre[0] + place[0], centre[1] + place[1]];
        }
        let count = real(points.len());
        let centre = centre.map(|sum| sum / count);
        self.nodes.push(Node { centre, count, side_squared: side * side, children: [NONE; 4] });
        if points.len() == 1 || depth == DEEPEST || side == 0.0 {
            for point in points {
                self.leaves[*point as usize] = number;
            }
            return number;
        }
        let half = side / 2.0;
        let middle = [corner[0] + half, corner[1] + half];
        let right = split(points, |point| places[point as usize][0] < middle[0]);
        let (left, right) = points.split_at_mut(right);
        for (column, points) in [left, right].into_iter().enumerate() {
            let above = split(points, |point| places[point as usize][1] < middle[1]);
            let (below, above) = points.split_at_mut(above);
            for (row, points) in [below, above].into_iter().enumerate() {
                if points.is_empty() {
                    continue;
                }
                let corner = [[corner[0], middle[0]][column], [corner[1], middle[1]][row]];
                let child = self.add(places, points, corner, half, depth + 1);
                self.nodes[number as usize].children[2 * column + row] = child;
            }
        }
        number
    }

    /// What pushes a point.
    pub(super) fn push(&self, places: &[[f64; 2]], point: usize) -> Push {
        self.push_within(places, point, THETA)
    }

    fn push_within(&self, places: &[[f64; 2]], point: usize, theta: f64) -> Push {
        let place = places[point];
        let mut push = Push::default();
        let mut waiting = vec![NONE];
        while let Some(number) = waiting.pop() {
            let node = &self.nodes[number as usize];
            if number == self.leaves[point] {
                // Others at the same place push nowhere, and are as similar as can be.
                push.sum += node.count - 1.0;
                continue;
            }
            let apart = [place[0] - node.centre[0], place[1] - node.centre[1]];
            let distance = apart[0] * apart[0] + apart[1] * apart[1];
            let far = node.side_squared < theta * theta * distance;
            if far || node.children == [NONE; 4] {
                push.add(place, node.centre, node.count);
            } else {
                waiting.extend(node.children.iter().filter(|child| **child != NONE));
            }
        }
        push
    }
}

/// Brings the points for which `is` holds to the front, and gives their number.
fn split(points: &mut [u32], is: impl Fn(u32) -> bool) -> usize {
    let mut front = 0;
    for at in 0..points.len() {
        if is(points[at]) {
            points.swap(front, at);
            front += 1;
        }
    }
    front
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

    /// Every other point by itself.
    fn naive(places: &[[f64; 2]], point: usize) -> Push {
        let mut push = Push::default();
        for other in (0..places.len()).filter(|other| *other != point) {
            push.add(places[point], places[other], 1.0);
        }
        push
    }

    fn scattered(count: usize) -> Vec<[f64; 2]> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        (0..count).map(|_| [next() * 60.0 - 30.0, next() * 20.0]).collect()
    }

    #[test]
    fn pushes_are_about_those_of_each_point_by_itself() {
        let places = scattered(1500);
        let tree = Tree::of(&places);
        let (mut wrong, mut all) = (0.0, 0.0);
        let (mut sum, mut naive_sum) = (0.0, 0.0);
        for point in 0..places.len() {
            let (found, expected) = (tree.push(&places, point), naive(&places, point));
            // Where no square counts as one, every point does by itself.
            let exact = tree.push_within(&places, point, 0.0);
            assert!((exact.sum / expected.sum - 1.0).abs() < 1e-12);
            assert!((exact.force[0] - expected.force[0]).abs() < 1e-12 * expected.sum);
            let apart = [0, 1].map(|axis| found.force[axis] - expected.force[axis]);
            wrong += apart[0].hypot(apart[1]);
            all += expected.force[0].hypot(expected.force[1]);
            sum += found.sum;
            naive_sum += expected.sum;
        }
        assert!(wrong / all < 0.03, "{}", wrong / all);
        assert!((sum / naive_sum - 1.0).abs() < 0.02, "{sum}, {naive_sum}");
    }

    #[test]
    fn points_at_one_place_are_counted_and_push_nowhere() {
        for places in [vec![[2.0, 3.0]; 5], vec![[0.0, 0.0]]] {
            let tree = Tree::of(&places);
            for point in 0..places.len() {
                assert_eq!(tree.push(&places, point), naive(&places, point));
            }
        }
        let mut places = scattered(20);
        places.extend(vec![[1.0, 1.0]; 4]);
        let tree = Tree::of(&places);
        for point in 0..places.len() {
            let (found, expected) = (tree.push(&places, point), naive(&places, point));
            assert!((found.sum / expected.sum - 1.0).abs() < 0.05, "{point}");
        }
        Tree::of(&[]);
    }
}
