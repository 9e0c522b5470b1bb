//! Where the scales and biases of quantized values are, by the names of tensors.
//!
//! Names differ from one quantizer to the next. Those that are known are looked for beside
//! each tensor of values, piece by piece, and one level up for a table in pieces that shares
//! them. What looks like a scale and is not known makes the table unclear: without it the
//! rows would be wrong, and nobody would notice.

use super::json::shortened;
use super::pieces::Pattern;
use super::resolve::{Catalogue, Pick};
use crate::error::{Error, Result};

/// The ends of names that stand in place of `weight`, for values whose name ends with that.
const SCALES: [&str; 4] = ["weight_scale", "weight_scale_inv", "scales", "scale"];
const BIASES: [&str; 1] = ["biases"];

/// The ends of names that are appended to those of other values.
const SCALES_APPENDED: [&str; 4] = ["_scale", "_scale_inv", ".scales", ".scale"];
const BIASES_APPENDED: [&str; 1] = [".biases"];

/// What a caller says where a table is to be read without them.
const NONE: &str = "none";

/// The scales, or the biases, of a table's values.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// There are none.
    Nothing,
    /// One tensor for all values, or one for each piece.
    Tensors(Pick),
    /// Which they are cannot be told by their names.
    Unclear(Vec<String>),
}

impl Beside {
    /// The tensors to be read.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Beside::Tensors(pick) => &pick.names,
            Beside::Nothing | Beside::Unclear(_) => &[],
        }
    }

    /// With the shapes and dtypes of what is unclear, as far as they can be had: the error that
    /// may come of it shows them.
    pub(super) fn with_forms<C: Catalogue>(self, catalogue: &C) -> Self {
        let Beside::Unclear(names) = self else { return self };
        let pattern = |name: &'_ String| !catalogue.has(name) && Pattern::of(name).is_some();
        let patterns: Vec<bool> = names.iter().map(pattern).collect();
        let is_one = |tensor: &str, at: usize| match Pattern::of(&names[at]) {
            Some(pattern) if patterns[at] => pattern.number_of(tensor).is_some(),
            _ => names[at] == tensor,
        };
        let mut shown = names.clone();
        let mut seen = vec![false; names.len()];
        let visited = catalogue.visit(&mut |_, tensor| {
            let at = (0..names.len()).find(|at| !seen[*at] && is_one(tensor.name, *at));
            if let Some(at) = at {
                (shown[at], seen[at]) = (tensor.shown(), true);
            }
        });
        Beside::Unclear(if visited.is_ok() { shown } else { names })
    }
}

/// Scales or biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Scales,
    Biases,
}

impl Kind {
    /// The option that names them.
    pub(super) fn option(self) -> &'static str {
        match self {
            Kind::Scales => "scales",
            Kind::Biases => "biases",
        }
    }

    fn ends(self, has_weight: bool) -> &'static [&'static str] {
        match (self, has_weight) {
            (Kind::Scales, true) => &SCALES,
            (Kind::Scales, false) => &SCALES_APPENDED,
            (Kind::Biases, true) => &BIASES,
            (Kind::Biases, false) => &BIASES_APPENDED,
        }
    }
}

/// The scales, or the biases, of picked values: those that are asked for, or those that the
/// names tell.
pub(super) fn find<C: Catalogue>(
    catalogue: &C,
    values: &Pick,
    kind: Kind,
    asked: Option<&str>,
) -> Result<Beside> {
    let found = match asked {
        Some(name) => match Pick::asked(catalogue, name)? {
            Some(pick) => Beside::Tensors(pick),
            None if name == NONE => Beside::Nothing,
            None => {
                let option = kind.option();
                let reason = format!(
                    "no tensor of {} is named {name:?}; `embmap info PATH --tensors` lists them, and \"{NONE}\" reads the values without any",
                    catalogue.path().display()
                );
                return Err(Error::InvalidOption { option, reason });
            }
        },
        None => by_name(catalogue, values, kind)?,
    };
    if let Beside::Tensors(pick) = &found {
        check_count(catalogue, values, pick)?;
    }
    Ok(found)
}

/// Refuses another number of tensors than one for all values or one for each piece.
fn check_count<C: Catalogue>(catalogue: &C, values: &Pick, found: &Pick) -> Result<()> {
    let (pieces, count) = (values.names.len(), found.names.len());
    let is_shared = found.names == [found.shown.as_str()];
    if count == pieces || is_shared {
        return Ok(());
    }
    Err(Error::TensorForm {
        path: catalogue.path().to_path_buf(),
        tensor: shortened(&found.shown),
        reason: format!(
            "is there in {count} pieces, expected {pieces}, one for each of {:?}, or a single one for all",
            shortened(&values.shown)
        ),
    })
}

/// A name that scales or biases may have.
enum Candidate<'a> {
    Named(String),
    Pieces { before: &'a str, after: String, first: u64 },
}

impl Candidate<'_> {
    fn fits(&self, name: &str) -> bool {
        match self {
            Candidate::Named(own) => own == name,
            Candidate::Pieces { .. } => {
                self.pattern().is_some_and(|pattern| pattern.number_of(name).is_some())
            }
        }
    }

    fn pattern(&self) -> Option<Pattern<'_>> {
        match self {
            Candidate::Named(_) => None,
            Candidate::Pieces { before, after, first } => {
                Some(Pattern { before, after, first: *first })
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Candidate::Named(name) => name.clone(),
            Candidate::Pieces { .. } => {
                self.pattern().map(|pattern| pattern.text()).unwrap_or_default()
            }
        }
    }
}

fn by_name<C: Catalogue>(catalogue: &C, values: &Pick, kind: Kind) -> Result<Beside> {
    let candidates = candidates(values, kind);
    let mut found = vec![false; candidates.len()];
    let mut strange: Vec<String> = Vec::new();
    let stems = stems(values);
    for name in catalogue.names() {
        let mut known = false;
        for (candidate, found) in candidates.iter().zip(&mut found) {
            let fits = candidate.fits(name);
            *found |= fits;
            known |= fits;
        }
        if kind == Kind::Scales && !known && strange.len() < 3 {
            let rest = stems.iter().find_map(|stem| stem.rest_of(name));
            if rest.is_some_and(looks_like_a_scale) {
                strange.push(name.to_owned());
            }
        }
    }
    let found: Vec<&Candidate<'_>> =
        candidates.iter().zip(found).filter(|(_, found)| *found).map(|(own, _)| own).collect();
    match found.as_slice() {
        [] if strange.is_empty() => Ok(Beside::Nothing),
        [only] if strange.is_empty() => match only.pattern() {
            Some(pattern) => {
                Ok(Pick::pieces(catalogue, pattern)?.map_or(Beside::Nothing, Beside::Tensors))
            }
            None => Ok(Beside::Tensors(Pick::one(&only.text()))),
        },
        several => {
            let known = several.iter().map(|candidate| candidate.text());
            Ok(Beside::Unclear(known.chain(strange).collect()))
        }
    }
}

/// Every name that could be the scales or biases of values.
fn candidates(values: &Pick, kind: Kind) -> Vec<Candidate<'_>> {
    let ends_of = |of: &str| {
        let stem = of.strip_suffix("weight").filter(|stem| stem.is_empty() || stem.ends_with('.'));
        let ends = kind.ends(stem.is_some()).iter();
        ends.map(|end| format!("{}{end}", stem.unwrap_or(of))).collect::<Vec<String>>()
    };
    let Some(pattern) = pattern_of(values) else {
        return ends_of(&values.shown).into_iter().map(Candidate::Named).collect();
    };
    let each = ends_of(pattern.after).into_iter().map(|after| Candidate::Pieces {
        before: pattern.before,
        after,
        first: pattern.first,
    });
    let shared = parents(pattern.before)
        .into_iter()
        .flat_map(|parent| ends_of(&format!("{parent}weight")))
        .map(Candidate::Named);
    each.chain(shared).collect()
}

/// The pattern of values in pieces.
fn pattern_of(values: &Pick) -> Option<Pattern<'_>> {
    Pattern::of(&values.shown).filter(|_| values.names != [values.shown.as_str()])
}

/// What the name of a tensor that all pieces share may start with, from what stands before
/// their numbers: `a.shard_` is within `a.`, `a.shards.` within `a.shards.` and `a.`.
fn parents(before: &str) -> Vec<&str> {
    let up = |name: &str| name.rfind('.').map_or(0, |dot| dot + 1);
    let first = &before[..up(before)];
    let mut found = vec![first];
    if first == before && !first.is_empty() {
        found.push(&before[..up(&before[..before.len() - 1])]);
    }
    found
}

/// What names begin with that belong to values.
enum Stem<'a> {
    Of(&'a str),
    Pieces(&'a str),
}

impl Stem<'_> {
    /// What follows, where it is a single word.
    fn rest_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        let rest = match self {
            Stem::Of(stem) => name.strip_prefix(stem)?,
            Stem::Pieces(before) => {
                let rest = name.strip_prefix(before)?;
                let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                rest.strip_prefix('.')?
            }
        };
        (!rest.contains('.')).then_some(rest)
    }
}

fn stems(values: &Pick) -> Vec<Stem<'_>> {
    if let Some(pattern) = pattern_of(values) {
        let shared = parents(pattern.before).into_iter().filter(|parent| !parent.is_empty());
        return shared.map(Stem::Of).chain([Stem::Pieces(pattern.before)]).collect();
    }
    let name = values.shown.as_str();
    let stem = name.strip_suffix("weight").filter(|stem| !stem.is_empty());
    vec![Stem::Of(stem.unwrap_or(name))]
}

/// True for the last word of a name that would change the numbers of a row; the scales of
/// activations do not.
fn looks_like_a_scale(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let of_weights = !["input", "output", "act", "k_", "v_", "q_"]
        .iter()
        .any(|start| word.trim_start_matches(['_', '.']).starts_with(start));
    of_weights
        && ["scale", "zero_point", "zeros", "qzero", "absmax"]
            .iter()
            .any(|part| word.contains(part))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tensors::Tensor;
    use super::*;

    struct Named<'a>(&'a [&'a str]);

    impl Catalogue for Named<'_> {
        fn path(&self) -> &Path {
            Path::new("model")
        }

        fn names(&self) -> impl Iterator<Item = &str> + Clone {
            self.0.iter().copied()
        }

        fn visit(&self, _: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
            Ok(())
        }
    }

    fn scales_of(names: &[&str], asked: Option<&str>) -> Result<Beside> {
        let catalogue = Named(names);
        let shown = if names[0].contains("shard") { "n.shard_{}.weight" } else { names[0] };
        let values = Pick::asked(&catalogue, shown)?.unwrap();
        find(&catalogue, &values, Kind::Scales, asked)
    }

    fn names_of(found: Result<Beside>) -> Vec<String> {
        match found.unwrap() {
            Beside::Tensors(pick) => pick.names,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scales_beside_a_single_tensor_are_found_by_their_names() {
        for end in ["weight_scale", "weight_scale_inv", "scales", "scale"] {
            let name = format!("a.{end}");
            let names = ["a.weight", name.as_str(), "a.input_scale", "b.weight_scale"];
            assert_eq!(names_of(scales_of(&names, None)), [name.as_str()]);
        }
        assert_eq!(names_of(scales_of(&["table", "table_scale"], None)), ["table_scale"]);
        assert_eq!(scales_of(&["a.weight", "a.norm.scale"], None).unwrap(), Beside::Nothing);
        assert_eq!(scales_of(&["a.weight", "b.scale"], None).unwrap(), Beside::Nothing);
    }

    #[test]
    fn two_scales_or_an_unknown_one_are_unclear() {
        for names in [
            ["a.weight", "a.weight_scale", "a.scales"],
            ["a.weight", "a.weight_scale", "a.weight_scale_2"],
            ["a.weight", "a.qscale", "a.other"],
            ["a.weight", "a.weight_zero_point", "a.other"],
        ] {
            let found = scales_of(&names, None).unwrap();
            assert!(matches!(&found, Beside::Unclear(unclear) if !unclear.is_empty()), "{found:?}");
            assert_eq!(scales_of(&names, Some("none")).unwrap(), Beside::Nothing);
            assert_eq!(names_of(scales_of(&names, Some(names[1]))), [names[1]]);
        }
    }

    #[test]
    fn scales_of_pieces_are_their_own_or_shared() {
        let pieces = ["n.shard_0.weight", "n.shard_1.weight"];
        let with = |more: &[&'static str]| [&pieces[..], more].concat();
        let each = with(&["n.shard_1.weight_scale", "n.shard_0.weight_scale"]);
        assert_eq!(
            names_of(scales_of(&each, None)),
            ["n.shard_0.weight_scale", "n.shard_1.weight_scale"]
        );
        assert_eq!(names_of(scales_of(&with(&["n.weight_scale"]), None)), ["n.weight_scale"]);
        let both = with(&["n.shard_0.scales", "n.shard_1.scales", "n.weight_scale"]);
        assert!(matches!(scales_of(&both, None).unwrap(), Beside::Unclear(_)));
        assert_eq!(names_of(scales_of(&both, Some("n.shard_{}.scales"))).len(), 2);

        // A piece without a scale, the first or the last, and a scale too many.
        let error = scales_of(&with(&["n.shard_1.scales"]), None).unwrap_err();
        assert!(error.to_string().contains("lacks piece 0, \"n.shard_0.scales\""), "{error}");
        for more in [
            &["n.shard_0.scales"][..],
            &["n.shard_0.scales", "n.shard_1.scales", "n.shard_2.scales"],
        ] {
            let error = scales_of(&with(more), None).unwrap_err();
            let expected = format!("in {} pieces, expected 2", more.len());
            assert!(error.to_string().contains(&expected), "{error}");
        }
        // One that is named is for all pieces.
        let one = with(&["n.shard_0.scales"]);
        assert_eq!(names_of(scales_of(&one, Some("n.shard_0.scales"))), ["n.shard_0.scales"]);
    }

    #[test]
    fn the_shards_spelling_shares_scales_on_two_levels() {
        assert_eq!(parents("a.b.shards."), ["a.b.shards.", "a.b."]);
        assert_eq!(parents("a.b.shard_"), ["a.b."]);
        assert_eq!(parents("shards."), ["shards.", ""]);
        assert_eq!(parents("shard_"), [""]);
        for scale in ["n.shards.weight_scale", "n.weight_scale"] {
            let names = ["n.shards.0.weight", "n.shards.1.weight", scale];
            let catalogue = Named(&names);
            let values = Pick::asked(&catalogue, "n.shards.{}.weight").unwrap().unwrap();
            let found = find(&catalogue, &values, Kind::Scales, None);
            assert_eq!(names_of(found), [scale]);
        }
    }

    #[test]
    fn an_absent_name_that_was_asked_for_is_an_error() {
        let error = scales_of(&["a.weight", "a.scales"], Some("b.scales")).unwrap_err();
        assert!(matches!(&error, Error::InvalidOption { option: "scales", .. }), "{error}");
        assert!(error.to_string().contains("b.scales"), "{error}");
    }
}
