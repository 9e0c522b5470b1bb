//! Which tensor is the embedding: the rules in their order. Never a silent guess.
//!
//! 1. the name that was asked for
//! 2. an exact name
//! 3. a unique suffix
//! 4. the unique tensor of the right form
//! 5. a tied head
//! 6. an error that lists the candidates

use super::config::Config;
use super::json::shortened;
use super::names::{self, ByName, MODEL2VEC, MODEL2VEC_BESIDE};
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

/// The name of the tensor that is the embedding. `config` is asked only where names do not
/// settle it.
pub(super) fn resolve<C: Catalogue>(
    catalogue: &C,
    asked: Option<&str>,
    config: impl FnOnce() -> Result<Config>,
) -> Result<String> {
    if let Some(name) = asked {
        if catalogue.has(name) {
            return Ok(name.to_owned());
        }
        return Err(unclear(catalogue, |total| {
            format!("none of {total} tensors is named {name:?}")
        }));
    }
    match names::by_name(catalogue.names()) {
        ByName::One(name) => return check_whole(catalogue, name).map(|()| name.to_owned()),
        ByName::Several(found) => return Err(ambiguous(catalogue, &found)),
        ByName::Nothing => {}
    }
    let config = config()?;
    let (mut fitting, mut first) = (0u64, String::new());
    catalogue.visit(&mut |_, tensor| {
        if names::has_form(tensor.name, tensor.shape, config) {
            fitting += 1;
            if fitting == 1 {
                tensor.name.clone_into(&mut first);
            }
        }
    })?;
    if fitting == 1 {
        return Ok(first);
    }
    if let Some(head) = names::tied_head(catalogue.names(), config) {
        return Ok(head.to_owned());
    }
    let form = match (config.vocab_size, config.hidden_size) {
        (None, None) => "two dimensions".to_owned(),
        (vocab, hidden) => {
            let side =
                |size: Option<u64>| size.map_or_else(|| "any".to_owned(), |size| size.to_string());
            format!("the shape [{}, {}] that config.json states", side(vocab), side(hidden))
        }
    };
    Err(unclear(catalogue, |total| {
        format!("none of {total} tensors has a known name, and {fitting} have {form}, expected one")
    }))
}

/// Refuses model2vec's rows where other tensors make them more than rows.
fn check_whole<C: Catalogue>(catalogue: &C, name: &str) -> Result<()> {
    let beside: Vec<&str> =
        MODEL2VEC_BESIDE.into_iter().filter(|other| catalogue.has(other)).collect();
    if name != MODEL2VEC || beside.is_empty() {
        return Ok(());
    }
    Err(Error::TensorForm {
        path: catalogue.path().to_path_buf(),
        tensor: name.to_owned(),
        reason: format!(
            "is only a part of this model2vec table: a token's row is embeddings[mapping[id]] * weights[id], and {} is there too, which this version does not apply; --tensor embeddings (`OpenOptions::tensor`) reads the raw rows",
            beside.join(" and ")
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
                visit(
                    Path::new("file"),
                    Tensor { name, dtype: "f32", shape, offset: 0, bytes: 0 },
                );
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
        assert_eq!(name.unwrap(), "transformer.wte.weight");
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
        for beside in MODEL2VEC_BESIDE {
            let tensors = [("embeddings", "10,4"), (beside, "30")];
            let error = pick(&tensors, None, Config::default()).unwrap_err();
            assert!(matches!(&error, Error::TensorForm { tensor, .. } if tensor == "embeddings"));
            assert!(error.to_string().contains(beside), "{error}");
            assert!(error.to_string().contains("--tensor embeddings"), "{error}");
            assert_eq!(
                pick(&tensors, Some("embeddings"), Config::default()).unwrap(),
                "embeddings"
            );
        }
        assert_eq!(pick(&[("embeddings", "10,4")], None, Config::default()).unwrap(), "embeddings");
        let other = [("embedding.weight", "10,4"), ("weights", "10")];
        assert_eq!(pick(&other, None, Config::default()).unwrap(), "embedding.weight");
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
