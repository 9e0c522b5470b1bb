//! Which tensor is the embedding: the rules in their order. Never a silent guess.
//!
//! 1. the name, or the pattern of pieces, that was asked for
//! 2. an exact name
//! 3. a unique suffix
//! 4. the unique tensor of the right form
//! 5. a tied head
//! 6. the only table in pieces, where nothing else has the form of an embedding
//! 7. an error that lists the candidates

use super::config::Config;
use super::json::shortened;
use super::names::{self, ByName, MODEL2VEC_BESIDE, MODEL2VEC_ROWS};
use super::pieces::{Pattern, families};
use super::tensors::Tensor;
use crate::error::{Error, Result};
use std::path::Path;

/// The tensors of a file or of a sharded model.
pub(super) trait Catalogue {
    /// The file or model directory, for errors.
    fn path(&self) -> &Path;

    /// The names of all tensors.
    fn names(&self) -> impl Iterator<Item = &str> + Clone;

    /// True where there is a tensor of that name.
    fn has(&self, name: &str) -> bool {
        self.names().any(|other| other == name)
    }

    /// Visits all tensors with the file that holds each. May open every shard.
    fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()>;
}

/// The tensors that are asked for: one, or the pieces of a table in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pick {
    /// The name or the pattern.
    pub(super) shown: String,
    pub(super) names: Vec<String>,
}

impl Pick {
    /// A single tensor.
    pub(super) fn one(name: &str) -> Self {
        Pick { shown: name.to_owned(), names: vec![name.to_owned()] }
    }

    /// The tensor or the pieces that a caller names; `None` where there is none.
    pub(super) fn asked<C: Catalogue>(catalogue: &C, name: &str) -> Result<Option<Self>> {
        if catalogue.has(name) {
            return Ok(Some(Pick::one(name)));
        }
        Pattern::of(name).map_or(Ok(None), |pattern| Pick::pieces(catalogue, pattern))
    }

    /// Every piece of a pattern; `None` where there is none.
    pub(super) fn pieces<C: Catalogue>(
        catalogue: &C,
        pattern: Pattern<'_>,
    ) -> Result<Option<Self>> {
        let shown = pattern.text();
        match pattern.collect(catalogue.names()) {
            None => Ok(None),
            Some(Ok(names)) => Ok(Some(Pick { shown, names })),
            Some(Err(reason)) => Err(Error::TensorForm {
                path: catalogue.path().to_path_buf(),
                tensor: shortened(&shown),
                reason,
            }),
        }
    }
}

/// The tensors that are the embedding. `config` is asked only where names do not settle it.
pub(super) fn resolve<C: Catalogue>(
    catalogue: &C,
    asked: Option<&str>,
    config: impl FnOnce() -> Result<Config>,
) -> Result<Pick> {
    if let Some(name) = asked {
        return Pick::asked(catalogue, name)?.ok_or_else(|| {
            let kind = if Pattern::of(name).is_some() { "a piece of" } else { "named" };
            unclear(catalogue, |total| format!("none of {total} tensors is {kind} {name:?}"))
        });
    }
    match names::by_name(catalogue.names()) {
        ByName::One(name) => return check_whole(catalogue, name).map(|()| Pick::one(name)),
        ByName::Several(found) => return Err(ambiguous(catalogue, &found)),
        ByName::Nothing => {}
    }
    let config = config()?;
    let families = families(catalogue.names());
    let is_piece = |name: &str| {
        let rest = families.iter().find_map(|pattern| name.strip_prefix(pattern.before));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let (mut fitting, mut first) = (0u64, String::new());
    catalogue.visit(&mut |_, tensor| {
        if !is_piece(tensor.name) && names::has_form(tensor.name, tensor.shape, config) {
            fitting += 1;
            if fitting == 1 {
                tensor.name.clone_into(&mut first);
            }
        }
    })?;
    let form_is_known = (config.vocab_size, config.hidden_size) != (None, None);
    if fitting == 1 && (families.is_empty() || form_is_known) {
        return Ok(Pick::one(&first));
    }
    if let Some(head) = names::tied_head(catalogue.names(), config) {
        return Ok(Pick::one(head));
    }
    if let (0, [only]) = (fitting, families.as_slice())
        && let Some(pieces) = Pick::pieces(catalogue, *only)?
    {
        return Ok(pieces);
    }
    let form = match (config.vocab_size, config.hidden_size) {
        (None, None) => "two dimensions".to_owned(),
        (vocab, hidden) => {
            let side =
                |size: Option<u64>| size.map_or_else(|| "any".to_owned(), |size| size.to_string());
            format!("the shape [{}, {}] that config.json states", side(vocab), side(hidden))
        }
    };
    let pieces = match families.as_slice() {
        [] => String::new(),
        all => format!(" besides the pieces of {}", shown(all)),
    };
    Err(unclear(catalogue, |total| {
        format!(
            "none of {total} tensors has a known name, and {fitting} have {form}{pieces}, expected one"
        )
    }))
}

/// The first of several patterns, escaped.
fn shown(patterns: &[Pattern<'_>]) -> String {
    let first: Vec<String> =
        patterns.iter().take(3).map(|pattern| escaped(&pattern.text())).collect();
    let more = if patterns.len() > first.len() { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}

/// The tensors that, beside model2vec's rows, make a token's row another one.
pub(super) fn beside_model2vec<C: Catalogue>(catalogue: &C, name: &str) -> Vec<&'static str> {
    let is_model2vec = MODEL2VEC_ROWS.contains(&name);
    MODEL2VEC_BESIDE.into_iter().filter(|other| is_model2vec && catalogue.has(other)).collect()
}

/// Refuses model2vec's rows where other tensors make them more than rows.
fn check_whole<C: Catalogue>(catalogue: &C, name: &str) -> Result<()> {
    let beside = beside_model2vec(catalogue, name);
    if beside.is_empty() {
        return Ok(());
    }
    Err(Error::TensorForm {
        path: catalogue.path().to_path_buf(),
        tensor: name.to_owned(),
        reason: format!(
            "is only a part of this model2vec table: a token's row is {name}[mapping[id]] * weights[id], and {} {} there too; convert it (embmap convert), which applies them, or read the raw rows with --tensor {name} (`OpenOptions::tensor`)",
            beside.join(" and "),
            if beside.len() == 1 { "is" } else { "are" }
        ),
    })
}

fn ambiguous<C: Catalogue>(catalogue: &C, found: &[&str]) -> Error {
    let mut candidates = Vec::new();
    let visited = catalogue.visit(&mut |_, tensor| {
        if found.contains(&tensor.name) {
            candidates.push(tensor.to_string());
        }
    });
    // Where a shard is missing, the names still say what there is to choose from.
    if visited.is_err() {
        candidates = found.iter().map(|name| escaped(name)).collect();
    }
    let reason = format!("{} tensors have the name of an embedding, expected one", found.len());
    Error::Tensor { path: catalogue.path().to_path_buf(), reason, candidates }
}

/// The error that lists what there is, the tensors with most rows first.
fn unclear<C: Catalogue>(catalogue: &C, reason: impl FnOnce(usize) -> String) -> Error {
    /// More are not kept: a hostile header holds millions.
    const MOST: usize = 1000;
    let by_rows = |list: &mut Vec<(u64, String)>| {
        list.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    };
    let mut list: Vec<(u64, String)> = Vec::new();
    let visited = catalogue.visit(&mut |_, tensor| {
        let Some((rows, _)) = tensor.shape.matrix() else { return };
        list.push((rows, tensor.to_string()));
        if list.len() == 2 * MOST {
            by_rows(&mut list);
            list.truncate(MOST);
        }
    });
    by_rows(&mut list);
    let mut candidates: Vec<String> =
        list.into_iter().take(MOST).map(|(_, tensor)| tensor).collect();
    let mut reason = reason(catalogue.names().count());
    // Where a shard is missing, the names still say what there is to choose from.
    if let Err(error) = visited {
        reason = format!("{reason} (shapes are not known: {error})");
        candidates = catalogue.names().take(MOST).map(escaped).collect();
    }
    Error::Tensor { path: catalogue.path().to_path_buf(), reason, candidates }
}

fn escaped(name: &str) -> String {
    shortened(name).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::tensors::Shape;
    use super::*;

    struct Listed<'a>(&'a [(&'a str, &'a str)]);

    impl Catalogue for Listed<'_> {
        fn path(&self) -> &Path {
            Path::new("model")
        }

        fn names(&self) -> impl Iterator<Item = &str> + Clone {
            self.0.iter().map(|(name, _)| *name)
        }

        fn visit(&self, visit: &mut dyn FnMut(&Path, Tensor<'_>)) -> Result<()> {
            for (name, shape) in self.0 {
                let shape = Shape(shape);
                visit(Path::new("file"), Tensor { name, dtype: "f32", shape, offset: 0, bytes: 0 });
            }
            Ok(())
        }
    }

    fn config(vocab_size: u64, hidden_size: u64, tied: bool) -> Config {
        Config {
            vocab_size: Some(vocab_size),
            hidden_size: Some(hidden_size),
            tie_word_embeddings: Some(tied),
        }
    }

    fn pick(tensors: &[(&str, &str)], asked: Option<&str>, config: Config) -> Result<String> {
        pick_all(tensors, asked, config).map(|pick| {
            assert_eq!(pick.names, [pick.shown.as_str()]);
            pick.shown
        })
    }

    fn pick_all(tensors: &[(&str, &str)], asked: Option<&str>, config: Config) -> Result<Pick> {
        resolve(&Listed(tensors), asked, || Ok(config))
    }

    #[test]
    fn the_name_that_was_asked_for_wins() {
        let tensors = [("model.embed_tokens.weight", "10,4"), ("other", "3,4")];
        assert_eq!(pick(&tensors, Some("other"), Config::default()).unwrap(), "other");
        let error = pick(&tensors, Some("absent"), Config::default()).unwrap_err();
        let Error::Tensor { reason, candidates, .. } = error else { panic!("{error}") };
        assert_eq!(reason, "none of 2 tensors is named \"absent\"");
        assert_eq!(candidates, ["model.embed_tokens.weight [10, 4] f32", "other [3, 4] f32"]);
    }

    #[test]
    fn the_config_is_not_read_where_names_settle_it() {
        let asked = Cell::new(false);
        let tensors = [("transformer.wte.weight", "10,4")];
        let name = resolve(&Listed(&tensors), None, || {
            asked.set(true);
            Ok(Config::default())
        });
        assert_eq!(name.unwrap().shown, "transformer.wte.weight");
        assert!(!asked.get());
    }

    #[test]
    fn a_known_name_stands_before_a_fitting_form() {
        let tensors = [("table", "10,4"), ("wte.weight", "9,4")];
        assert_eq!(pick(&tensors, None, config(10, 4, false)).unwrap(), "wte.weight");
    }

    #[test]
    fn the_only_matrix_is_taken_and_one_of_two_is_not() {
        let one =
            [("table", "10,4"), ("bias", "10"), ("lm_head.weight", "10,4"), ("wpe.weight", "5,4")];
        assert_eq!(pick(&one, None, Config::default()).unwrap(), "table");
        let two = [("table", "10,4"), ("other", "20,4")];
        assert_eq!(pick(&two, None, config(10, 4, false)).unwrap(), "table");
        let error = pick(&two, None, Config::default()).unwrap_err();
        let Error::Tensor { reason, candidates, .. } = error else { panic!("{error}") };
        assert!(reason.contains("2 have two dimensions"), "{reason}");
        assert_eq!(candidates, ["other [20, 4] f32", "table [10, 4] f32"]);
    }

    #[test]
    fn a_tied_head_comes_last() {
        let tensors = [("lm_head.weight", "10,4"), ("a", "4,4"), ("b", "4,4")];
        assert_eq!(pick(&tensors, None, config(10, 4, true)).unwrap(), "lm_head.weight");
        let error = pick(&tensors, None, config(10, 4, false)).unwrap_err();
        assert!(error.to_string().contains("the shape [10, 4] that config.json states"), "{error}");
    }

    #[test]
    fn several_known_names_are_listed_and_none_is_picked() {
        let tensors = [("wte.weight", "10,4"), ("model.embed_tokens.weight", "11,4"), ("x", "9,9")];
        let error = pick(&tensors, None, Config::default()).unwrap_err();
        let Error::Tensor { candidates, .. } = error else { panic!("{error}") };
        assert_eq!(candidates, ["wte.weight [10, 4] f32", "model.embed_tokens.weight [11, 4] f32"]);
    }

    #[test]
    fn model2vec_with_a_mapping_is_refused_unless_named() {
        for name in MODEL2VEC_ROWS {
            for beside in MODEL2VEC_BESIDE {
                let tensors = [(name, "10,4"), (beside, "30")];
                let error = pick(&tensors, None, Config::default()).unwrap_err();
                assert!(matches!(&error, Error::TensorForm { tensor, .. } if tensor == name));
                assert!(error.to_string().contains(beside), "{error}");
                assert!(error.to_string().contains(&format!("--tensor {name}")), "{error}");
                assert_eq!(pick(&tensors, Some(name), Config::default()).unwrap(), name);
            }
            assert_eq!(pick(&[(name, "10,4")], None, Config::default()).unwrap(), name);
        }
        let other = [("wte.weight", "10,4"), ("weights", "10")];
        assert_eq!(pick(&other, None, Config::default()).unwrap(), "wte.weight");
    }

    const PIECES: [(&str, &str); 4] = [
        ("m.ngram.shard_10.weight", "2,4"),
        ("m.ngram.shard_0.weight", "2,4"),
        ("m.ngram.shard_0.scales", "2,1"),
        ("m.ngram.weight_scale", ""),
    ];

    /// The pieces 0 to 10, and further tensors.
    fn with_pieces<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        const BETWEEN: [&str; 9] = [
            "m.ngram.shard_1.weight",
            "m.ngram.shard_2.weight",
            "m.ngram.shard_3.weight",
            "m.ngram.shard_4.weight",
            "m.ngram.shard_5.weight",
            "m.ngram.shard_6.weight",
            "m.ngram.shard_7.weight",
            "m.ngram.shard_8.weight",
            "m.ngram.shard_9.weight",
        ];
        let between = BETWEEN.iter().map(|name| (*name, "2,4"));
        PIECES.into_iter().chain(between).chain(more.iter().copied()).collect()
    }

    #[test]
    fn the_only_table_in_pieces_is_found_and_an_ordinary_embedding_stands_before_it() {
        let pattern = "m.ngram.shard_{}.weight";
        let tensors = with_pieces(&[("norm", "4"), ("lm_head.weight", "10,4")]);
        let found = pick_all(&tensors, None, Config::default()).unwrap();
        assert_eq!((found.shown.as_str(), found.names.len()), (pattern, 11));
        assert_eq!(found.names[10], "m.ngram.shard_10.weight");
        // The same by its pattern, whatever else there is.
        let tensors = with_pieces(&[("wte.weight", "10,4")]);
        assert_eq!(pick_all(&tensors, Some(pattern), Config::default()).unwrap(), found);
        assert_eq!(pick(&tensors, None, Config::default()).unwrap(), "wte.weight");
        // Another matrix may be the embedding.
        let tensors = with_pieces(&[("table", "10,4")]);
        let error = pick_all(&tensors, None, Config::default()).unwrap_err();
        assert!(error.to_string().contains("besides the pieces of m.ngram.shard_{}"), "{error}");
        assert_eq!(pick(&tensors, None, config(10, 4, false)).unwrap(), "table");
        let tensors = with_pieces(&[("lm_head.weight", "10,4")]);
        assert_eq!(pick(&tensors, None, config(10, 4, true)).unwrap(), "lm_head.weight");
        // One of two tables in pieces is no choice.
        let tensors = with_pieces(&[("n.shards.0.weight", "10,4")]);
        assert!(pick_all(&tensors, None, Config::default()).is_err());
    }

    #[test]
    fn a_missing_piece_is_named() {
        for asked in [None, Some("m.ngram.shard_{}.weight")] {
            let error = pick_all(&PIECES, asked, Config::default()).unwrap_err();
            let Error::TensorForm { tensor, reason, .. } = error else { panic!("{error}") };
            assert_eq!(tensor, "m.ngram.shard_{}.weight");
            assert!(reason.contains("lacks piece 1, \"m.ngram.shard_1.weight\""), "{reason}");
        }
        let error = pick_all(&PIECES, Some("no.{}"), Config::default()).unwrap_err();
        assert!(error.to_string().contains("none of 4 tensors is a piece of \"no.{}\""));
    }

    #[test]
    fn the_list_of_candidates_is_bounded_and_keeps_the_tallest() {
        let shapes: Vec<(String, String)> =
            (0..5000).map(|i| (format!("t{i}"), format!("{i},4"))).collect();
        let tensors: Vec<(&str, &str)> =
            shapes.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let error = pick(&tensors, None, Config::default()).unwrap_err();
        let Error::Tensor { candidates, reason, .. } = error else { panic!("{error}") };
        assert_eq!(candidates.len(), 1000);
        assert_eq!(candidates[0], "t4999 [4999, 4] f32");
        assert_eq!(candidates[999], "t4000 [4000, 4] f32");
        assert!(reason.contains("5000"));
    }
}
