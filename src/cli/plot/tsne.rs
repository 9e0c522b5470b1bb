//! The layout that shows neighbourhoods: t-SNE (van der Maaten and Hinton, "Visualizing data
//! using t-SNE", 2008), started from principal axes, with the learning rate of Belkina et al.,
//! "Automated optimized parameters for t-distributed stochastic neighbor embedding", 2019.

use std::ops::ControlFlow;

use anyhow::Result;
use embmap::Error;
use rayon::prelude::*;

use super::near::Near;
use super::points::real;
use super::tree::Tree;

/// The iterations in which neighbours pull more strongly, and all.
const EARLY: usize = 250;
const ITERATIONS: usize = 900;

/// How much more strongly.
const EXAGGERATION: f64 = 12.0;

/// The neighbours of a point that count, over the perplexity.
const NEIGHBOURS: f64 = 3.0;

/// The neighbours that a perplexity needs.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
pub(super) fn neighbours(perplexity: f64) -> usize {
    (perplexity * NEIGHBOURS).ceil() as usize
}

/// How alike points are, of pairs that are alike at all: the others of each point, and how
/// much, which is one in all.
struct Affinities {
    /// Where the others of each point start.
    starts: Vec<usize>,
    others: Vec<(u32, f64)>,
}

impl Affinities {
    fn of(near: &Near, count: usize, perplexity: f64) -> Self {
        let k = near.k.min(neighbours(perplexity)).max(1);
        let perplexity = perplexity.min(real(k) / NEIGHBOURS).max(1.0);
        let sides: Vec<Vec<(u32, u32, f64)>> = (0..count)
            .into_par_iter()
            .map(|point| {
                let of: Vec<(usize, f32)> = near.of(point, k).collect();
                let distances: Vec<f64> = of
                    .iter()
                    .map(|(_, cosine)| (2.0 - 2.0 * f64::from(*cosine)).max(0.0))
                    .collect();
                let shares = shares(&distances, perplexity);
                let number = |point: usize| u32::try_from(point).unwrap_or(u32::MAX);
                let both = of.iter().zip(shares).flat_map(|((other, _), share)| {
                    let (a, b) = (number(point), number(*other));
                    [(a, b, share), (b, a, share)]
                });
                both.collect()
            })
            .collect();
        let mut pairs: Vec<(u32, u32, f64)> = sides.into_iter().flatten().collect();
        // Stable, so that equal pairs are added in one order.
        pairs.par_sort_by_key(|(a, b, _)| (*a, *b));
        let mut affinities = Affinities { starts: vec![0], others: Vec::new() };
        let mut last = None;
        for (a, b, share) in pairs {
            let share = share / (2.0 * real(count));
            while affinities.starts.len() <= a as usize {
                affinities.starts.push(affinities.others.len());
            }
            match affinities.others.last_mut() {
                Some((_, sum)) if last == Some((a, b)) => *sum += share,
                _ => affinities.others.push((b, share)),
            }
            last = Some((a, b));
        }
        affinities.starts.resize(count + 1, affinities.others.len());
        affinities
    }

    fn of_point(&self, point: usize) -> &[(u32, f64)] {
        &self.others[self.starts[point]..self.starts[point + 1]]
    }
}

/// The shares of neighbours at some squared distances in a bell whose width makes the entropy
/// that of `perplexity` equal ones.
fn shares(distances: &[f64], perplexity: f64) -> Vec<f64> {
    let wanted = perplexity.ln();
    let nearest = distances.iter().copied().fold(f64::INFINITY, f64::min);
    let (mut low, mut high, mut narrow) = (0.0, f64::INFINITY, 1.0);
    let mut shares = Vec::new();
    for _ in 0..64 {
        shares.clear();
        shares.extend(distances.iter().map(|it| (-narrow * (it - nearest)).exp()));
        let sum: f64 = shares.iter().sum();
        let mean: f64 =
            shares.iter().zip(distances).map(|(share, it)| share * (it - nearest)).sum::<f64>()
                / sum;
        for share in &mut shares {
            *share /= sum;
        }
        let entropy = sum.ln() + narrow * mean;
        if (entropy - wanted).abs() < 1e-5 {
            break;
        }
        if entropy > wanted {
            low = narrow;
            narrow = if high.is_finite() { f64::midpoint(low, high) } else { narrow * 2.0 };
        } else {
            high = narrow;
            narrow = f64::midpoint(low, high);
        }
    }
    shares
}

/// Lays out points from where they start.
pub(super) fn layout(
    near: &Near,
    start: &[f64],
    perplexity: f64,
    mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Vec<[f64; 2]>> {
    let count = start.len() / 2;
    let mut places = started(start);
    if count < 3 {
        return Ok(places);
    }
    let affinities = Affinities::of(near, count, perplexity);
    let rate = (real(count) / EXAGGERATION / 4.0).max(50.0);
    let mut speeds = vec![[0f64; 2]; count];
    let mut gains = vec![[1f64; 2]; count];
    for iteration in 0..ITERATIONS {
        let early = iteration < EARLY;
        let pull = if early { EXAGGERATION } else { 1.0 };
        let momentum = if early { 0.5 } else { 0.8 };
        let slopes = slopes(&affinities, &places, pull);
        for (((place, speed), gain), slope) in
            places.iter_mut().zip(&mut speeds).zip(&mut gains).zip(&slopes)
        {
            for axis in 0..2 {
                let same = (slope[axis] > 0.0) == (speed[axis] > 0.0);
                gain[axis] = if same { (gain[axis] * 0.8).max(0.01) } else { gain[axis] + 0.2 };
                speed[axis] = momentum * speed[axis] - rate * gain[axis] * slope[axis];
                place[axis] += speed[axis];
            }
        }
        if progress(iteration as u64 + 1, ITERATIONS as u64).is_break() {
            return Err(Error::Interrupted.into());
        }
    }
    Ok(places)
}

/// Where points start: along two axes, so close that pulls are felt.
fn started(start: &[f64]) -> Vec<[f64; 2]> {
    let first: f64 = start.iter().step_by(2).map(|value| value * value).sum();
    let deviation = (first / real(start.len() / 2)).sqrt();
    let factor = if deviation > 0.0 { 1e-4 / deviation } else { 0.0 };
    let place = |(at, pair): (usize, &[f64])| {
        // A little of its own for each, or points at one place would never part.
        let own = 1e-9 * real(at);
        [pair[0] * factor + own, pair[1] * factor - own]
    };
    start.chunks_exact(2).enumerate().map(place).collect()
}

/// Where the cost rises, for each point: pulls of those alike, less pushes of all.
fn slopes(affinities: &Affinities, places: &[[f64; 2]], pull: f64) -> Vec<[f64; 2]> {
    let tree = Tree::of(places);
    let of_point = |point: usize| {
        let push = tree.push(places, point);
        let mut pulled = [0f64; 2];
        for (other, share) in affinities.of_point(point) {
            let other = places[*other as usize];
            let apart = [places[point][0] - other[0], places[point][1] - other[1]];
            let similarity = (1.0 + apart[0] * apart[0] + apart[1] * apart[1]).recip();
            pulled[0] += share * similarity * apart[0];
            pulled[1] += share * similarity * apart[1];
        }
        (pulled, push)
    };
    let forces: Vec<_> = (0..places.len()).into_par_iter().map(of_point).collect();
    // In the order of points, whoever found them.
    let sum: f64 = forces.iter().map(|(_, push)| push.sum).sum();
    let slope = |(pulled, push): ([f64; 2], super::tree::Push)| {
        [0, 1].map(|axis| 4.0 * (pull * pulled[axis] - push.force[axis] / sum))
    };
    forces.into_iter().map(slope).collect()
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

    use super::super::pca::principal;
    use super::super::points::Points;
    use super::*;

    const GO_ON: fn(u64, u64) -> ControlFlow<()> = |_, _| ControlFlow::Continue(());

    /// Groups of points around different directions.
    fn grouped(groups: usize, each: usize) -> Points {
        let mut state = 9u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let dim = 24;
        let mut values = Vec::new();
        for at in 0..groups * each {
            let mut row: Vec<f32> = (0..dim).map(|_| next()).collect();
            row[at % groups] += 4.0;
            let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            values.extend(row.iter().map(|value| value / length));
        }
        Points { dim, values }
    }

    #[test]
    fn groups_stay_together_and_apart_from_others() {
        let (groups, each) = (5, 24);
        let points = grouped(groups, each);
        let near = Near::find(&points, neighbours(7.0), GO_ON).unwrap();
        let start = principal(&points, 2, 3);
        let places = layout(&near, &start, 7.0, GO_ON).unwrap();
        assert!(places.iter().flatten().all(|value| value.is_finite()));
        // The ten nearest on the plane are of the same group.
        let mut strange = 0;
        for at in 0..places.len() {
            let apart = |other: usize| {
                (places[at][0] - places[other][0]).hypot(places[at][1] - places[other][1])
            };
            let mut others: Vec<usize> = (0..places.len()).filter(|other| *other != at).collect();
            others.sort_by(|a, b| apart(*a).total_cmp(&apart(*b)));
            strange += others[..10].iter().filter(|other| *other % groups != at % groups).count();
        }
        assert!(strange < places.len() / 20, "{strange}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let alone = one.install(|| layout(&near, &start, 7.0, GO_ON).unwrap());
        assert_eq!(alone, places, "the same again, whatever the threads");
    }

    #[test]
    fn slopes_are_those_of_the_cost() {
        let points = grouped(3, 12);
        let near = Near::find(&points, neighbours(5.0), GO_ON).unwrap();
        let affinities = Affinities::of(&near, 36, 5.0);
        let all: f64 = affinities.others.iter().map(|(_, share)| share).sum();
        assert!((all - 1.0).abs() < 1e-9);
        let mut places: Vec<[f64; 2]> =
            (0..36).map(|at| [f64::from(at % 7) * 1.3, f64::from(at * 5 % 11)]).collect();
        // Kullback and Leibler's, by its definition.
        let cost = |places: &[[f64; 2]]| {
            let similarity = |a: usize, b: usize| {
                let apart = (places[a][0] - places[b][0]).hypot(places[a][1] - places[b][1]);
                (1.0 + apart * apart).recip()
            };
            let mut sum = 0.0;
            for a in 0..36 {
                for b in (0..36).filter(|b| *b != a) {
                    sum += similarity(a, b);
                }
            }
            let mut cost = 0.0;
            for a in 0..36 {
                for (b, share) in affinities.of_point(a) {
                    cost += share * (share / (similarity(a, *b as usize) / sum)).ln();
                }
            }
            cost
        };
        let slopes = slopes(&affinities, &places, 1.0);
        let largest = slopes.iter().flatten().fold(0f64, |most, it| most.max(it.abs()));
        for point in [0, 7, 20] {
            for axis in 0..2 {
                let step = 1e-5;
                places[point][axis] += step;
                let more = cost(&places);
                places[point][axis] -= 2.0 * step;
                let slope = (more - cost(&places)) / (2.0 * step);
                places[point][axis] += step;
                // Squares of points are not quite the points.
                let wrong = (slopes[point][axis] - slope).abs();
                assert!(wrong < 0.05 * largest, "{point}, {axis}: {wrong}, {largest}");
            }
        }
    }

    #[test]
    fn few_points_and_equal_ones_have_places_too() {
        for count in [1, 2, 3, 5] {
            let points = Points { dim: 2, values: [0.6, 0.8].repeat(count) };
            let near = Near::find(&points, 90, GO_ON).unwrap();
            let start = principal(&points, 2, 0);
            let places = layout(&near, &start, 30.0, GO_ON).unwrap();
            assert_eq!(places.len(), count);
            assert!(places.iter().flatten().all(|value| value.is_finite()));
        }
    }
}
