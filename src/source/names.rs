//! Where the input embedding is, by the names of its tensors.
//!
//! The table of exact names comes first. Two of them in one model are two embeddings, and
//! none is picked, with one exception that the libraries define: an encoder-decoder model
//! has one table, `shared`, and its encoder and decoder may repeat it under their own names.

use std::collections::HashMap;

use super::config::Config;
use super::tensors::Shape;

/// Names whose tensor is the embedding, in the order in which they are shown.
#[rustfmt::skip]
pub(super) const EXACT: &[&str] = &[
    // Encoder-decoders: T5; BART, NLLB, Marian.
    "shared.weight", "model.shared.weight",
    // Llama, Mistral, Qwen, Gemma, Phi-3, OLMo, DeepSeek, GLM-4, gpt-oss, Granite.
    "model.embed_tokens.weight",
    // EmbeddingGemma, Qwen3-Embedding.
    "embed_tokens.weight",
    // Vision-language models, old and new.
    "language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight",
    // OPT, Whisper.
    "model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight",
    // GPT-2, GPT-J, MPT, DBRX; LLaDA; Phi-1, Phi-2.
    "wte.weight", "transformer.wte.weight", "model.transformer.wte.weight", "transformer.embd.wte.weight",
    // GPT-NeoX, Pythia.
    "gpt_neox.embed_in.weight",
    // BLOOM; Falcon.
    "word_embeddings.weight", "transformer.word_embeddings.weight",
    // The BERT family.
    "embeddings.word_embeddings.weight", "bert.embeddings.word_embeddings.weight",
    "roberta.embeddings.word_embeddings.weight", "distilbert.embeddings.word_embeddings.weight",
    "electra.embeddings.word_embeddings.weight", "albert.embeddings.word_embeddings.weight",
    "deberta.embeddings.word_embeddings.weight", "esm.embeddings.word_embeddings.weight",
    // ModernBERT.
    "embeddings.tok_embeddings.weight", "model.embeddings.tok_embeddings.weight",
    // NeoBERT.
    "encoder.weight",
    // CLIP, SigLIP; OpenCLIP.
    "text_model.embeddings.token_embedding.weight", "token_embedding.weight",
    // Meta's original files; InternLM2.
    "tok_embeddings.weight", "model.tok_embeddings.weight",
    // ChatGLM.
    "embedding.word_embeddings.weight", "transformer.embedding.word_embeddings.weight",
    // Mamba.
    "backbone.embedding.weight", "backbone.embeddings.weight", "model.embedding.weight",
    // RWKV.
    "rwkv.embeddings.weight", "model.embeddings.weight", "emb.weight",
    // OpenELM; Grok-1; BailingMoE.
    "transformer.token_embeddings.weight", "transformer.in_out_embed.weight", "model.word_embeddings.weight",
    // model2vec.
    MODEL2VEC,
    // sentence-transformers' StaticEmbedding.
    "embedding.weight",
    // Everything converted to GGUF.
    "token_embd.weight",
];

/// The name of model2vec's rows.
pub(super) const MODEL2VEC: &str = "embeddings";

/// The names of rows that model2vec reads: its own, and sentence-transformers'.
pub(super) const MODEL2VEC_ROWS: [&str; 2] = [MODEL2VEC, "embedding.weight"];

/// Tensors that, beside model2vec's rows, change what a token's row is.
pub(super) const MODEL2VEC_BESIDE: [&str; 2] = ["mapping", "weights"];

/// Last components that mean the input embedding whatever stands before them. Short names
/// such as `encoder`, `emb` and `shared` are not among them: in other models they are
/// ordinary layers.
const SUFFIXES: &[&str] = &[
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "token_embedding.weight",
    "token_embeddings.weight",
    "in_out_embed.weight",
];

/// The tables of encoder-decoder models, which hide their copies.
const SHARED: [&str; 2] = ["shared.weight", "model.shared.weight"];

/// A decoder's table, and the encoder's that makes it one of two.
const DECODER_AND_ENCODER: [(&str, &str); 2] = [
    ("model.decoder.embed_tokens.weight", "model.encoder.embed_tokens.weight"),
    ("decoder.embed_tokens.weight", "encoder.embed_tokens.weight"),
];

/// More names that could be the embedding are not kept: a hostile file has millions.
const MOST_FOUND: usize = 100;

/// What names alone can tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ByName<'a> {
    /// One tensor is the embedding.
    One(&'a str),
    /// Several could be.
    Several(Vec<&'a str>),
    /// None has a known name.
    Nothing,
}

impl<'a> ByName<'a> {
    fn of(found: Vec<&'a str>) -> Self {
        match found.as_slice() {
            [] => ByName::Nothing,
            [one] => ByName::One(one),
            _ => ByName::Several(found),
        }
    }
}

/// The embedding by exact name, then by a unique suffix.
pub(super) fn by_name<'a>(names: impl Iterator<Item = &'a str> + Clone) -> ByName<'a> {
    let exact = by_exact_name(names.clone());
    if exact != ByName::Nothing {
        return exact;
    }
    ByName::of(
        names.filter(|name| has_suffix(name) && !is_excluded(name)).take(MOST_FOUND).collect(),
    )
}

fn by_exact_name<'a>(names: impl Iterator<Item = &'a str>) -> ByName<'a> {
    let encoders = DECODER_AND_ENCODER.map(|(_, encoder)| encoder);
    let known: HashMap<&str, usize> =
        (0..).zip(EXACT.iter().chain(&encoders)).map(|(i, name)| (*name, i)).collect();
    let mut found: Vec<(usize, &'a str)> =
        names.filter_map(|name| known.get(name).map(|i| (*i, name))).collect();
    found.sort_unstable();
    let has = |wanted: &str| found.iter().any(|(_, name)| *name == wanted);
    let is_hidden = |name: &str| {
        // An encoder's own table speaks only where its decoder has another.
        let lone_encoder =
            DECODER_AND_ENCODER.iter().any(|(decoder, encoder)| *encoder == name && !has(decoder));
        let copy = DECODER_AND_ENCODER
            .iter()
            .any(|(decoder, encoder)| *decoder == name || *encoder == name);
        lone_encoder || (copy && SHARED.iter().any(|shared| has(shared)))
    };
    ByName::of(found.iter().map(|(_, name)| *name).filter(|name| !is_hidden(name)).collect())
}

fn has_suffix(name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| {
        name.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

/// True for heads, positions and types, which have the shape of an embedding or nearly so.
fn is_excluded(name: &str) -> bool {
    name.split('.').any(|component| {
        matches!(
            component,
            "head" | "output" | "embed_out" | "score" | "classifier" | "predictions" | "wpe"
        ) || component.ends_with("_head")
            || ["position", "embed_position", "pos_emb", "token_type", "type_emb", "segment"]
                .iter()
                .any(|start| component.starts_with(start))
    })
}

/// True for a tensor that has the form of an embedding: two dimensions, those that
/// `config.json` states, and not the name of a head, of positions or of types.
pub(super) fn has_form(name: &str, shape: Shape<'_>, config: Config) -> bool {
    let Some((rows, columns)) = shape.matrix() else { return false };
    config.vocab_size.is_none_or(|vocab_size| vocab_size == rows)
        && config.hidden_size.is_none_or(|hidden_size| hidden_size == columns)
        && !is_excluded(name)
}

/// The head that is the embedding too, where `config.json` says so.
pub(super) fn tied_head<'a>(
    names: impl Iterator<Item = &'a str>,
    config: Config,
) -> Option<&'a str> {
    if config.tie_word_embeddings != Some(true) {
        return None;
    }
    let mut heads =
        names.filter(|name| *name == "lm_head.weight" || name.ends_with(".lm_head.weight"));
    heads.next().filter(|_| heads.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick<'a>(names: &[&'a str]) -> ByName<'a> {
        by_name(names.iter().copied())
    }

    /// What else lies in the files of each architecture, next to its embedding.
    #[rustfmt::skip]
    const ARCHITECTURES: &[(&str, &[&str])] = &[
        ("model.embed_tokens.weight", &["lm_head.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.61.embed_tokens.weight", "model.norm.weight"]),
        ("embed_tokens.weight", &["layers.0.mlp.up_proj.weight", "norm.weight"]),
        ("language_model.model.embed_tokens.weight", &["language_model.lm_head.weight", "vision_tower.embeddings.position_embedding.weight"]),
        ("model.language_model.embed_tokens.weight", &["model.visual.pos_embed.weight", "model.language_model.embed_tokens_per_layer.weight", "lm_head.weight"]),
        ("model.decoder.embed_tokens.weight", &["model.decoder.embed_positions.weight", "model.encoder.embed_positions.weight", "model.encoder.conv1.weight", "proj_out.weight"]),
        ("decoder.embed_tokens.weight", &["decoder.embed_positions.weight"]),
        ("wte.weight", &["wpe.weight", "h.0.attn.c_attn.weight", "ln_f.weight"]),
        ("transformer.wte.weight", &["transformer.wpe.weight", "lm_head.weight", "transformer.h.0.attn.q_proj.weight"]),
        ("model.transformer.wte.weight", &["model.transformer.ff_out.weight"]),
        ("transformer.embd.wte.weight", &["lm_head.linear.weight"]),
        ("gpt_neox.embed_in.weight", &["embed_out.weight"]),
        ("word_embeddings.weight", &["word_embeddings_layernorm.weight", "h.0.self_attention.dense.weight"]),
        ("transformer.word_embeddings.weight", &["lm_head.weight"]),
        ("embeddings.word_embeddings.weight", &["embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight", "pooler.dense.weight"]),
        ("bert.embeddings.word_embeddings.weight", &["bert.embeddings.position_embeddings.weight", "bert.embeddings.token_type_embeddings.weight", "cls.predictions.decoder.weight"]),
        ("roberta.embeddings.word_embeddings.weight", &["roberta.embeddings.position_embeddings.weight", "lm_head.decoder.weight"]),
        ("distilbert.embeddings.word_embeddings.weight", &["distilbert.embeddings.position_embeddings.weight", "vocab_projector.weight"]),
        ("electra.embeddings.word_embeddings.weight", &["electra.embeddings_project.weight"]),
        ("albert.embeddings.word_embeddings.weight", &["albert.encoder.embedding_hidden_mapping_in.weight"]),
        ("deberta.embeddings.word_embeddings.weight", &["deberta.encoder.rel_embeddings.weight"]),
        ("esm.embeddings.word_embeddings.weight", &["esm.embeddings.position_embeddings.weight"]),
        ("embeddings.tok_embeddings.weight", &["layers.0.attn.Wqkv.weight"]),
        ("model.embeddings.tok_embeddings.weight", &["decoder.weight", "head.dense.weight"]),
        ("encoder.weight", &["decoder.weight", "transformer_encoder.0.qkv.weight"]),
        ("shared.weight", &["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight", "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]),
        ("model.shared.weight", &["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "model.encoder.embed_positions.weight", "lm_head.weight"]),
        ("text_model.embeddings.token_embedding.weight", &["text_model.embeddings.position_embedding.weight", "vision_model.embeddings.patch_embedding.weight"]),
        ("token_embedding.weight", &["positional_embedding", "visual.proj"]),
        ("tok_embeddings.weight", &["output.weight", "norm.weight"]),
        ("model.tok_embeddings.weight", &["output.weight"]),
        ("embedding.word_embeddings.weight", &["output_layer.weight"]),
        ("transformer.embedding.word_embeddings.weight", &["transformer.output_layer.weight"]),
        ("backbone.embedding.weight", &["lm_head.weight"]),
        ("backbone.embeddings.weight", &["backbone.layers.0.mixer.in_proj.weight"]),
        ("model.embedding.weight", &["model.norm.weight"]),
        ("rwkv.embeddings.weight", &["head.weight"]),
        ("model.embeddings.weight", &["lm_head.weight"]),
        ("emb.weight", &["head.weight", "blocks.0.att.key.weight"]),
        ("transformer.token_embeddings.weight", &["transformer.layers.0.ffn.proj_1.weight"]),
        ("transformer.in_out_embed.weight", &["transformer.decoder_layer.0.rms_norm.scale"]),
        ("model.word_embeddings.weight", &["lm_head.weight"]),
        ("embeddings", &[]),
        ("embedding.weight", &[]),
        ("token_embd.weight", &["output.weight"]),
    ];

    #[test]
    fn every_architecture_is_found_among_its_other_tensors() {
        for (embedding, others) in ARCHITECTURES {
            for order in 0..2 {
                let mut names = others.to_vec();
                names.insert(order * others.len(), embedding);
                assert_eq!(pick(&names), ByName::One(embedding), "{names:?}");
            }
        }
        let tested: Vec<&str> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
        for name in EXACT {
            assert!(tested.contains(name), "{name} has no test");
        }
    }

    #[test]
    fn exact_names_are_listed_once() {
        for (i, name) in EXACT.iter().enumerate() {
            assert!(!EXACT[..i].contains(name), "{name}");
        }
    }

    #[test]
    fn two_embeddings_are_no_choice() {
        let two = ["tok_embeddings.weight", "model.embed_tokens.weight"];
        assert_eq!(
            pick(&two),
            ByName::Several(vec!["model.embed_tokens.weight", "tok_embeddings.weight"])
        );
    }

    #[test]
    fn an_encoder_and_a_decoder_with_tables_of_their_own_are_no_choice() {
        let two = ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"];
        assert_eq!(pick(&two), ByName::Several(vec![two[1], two[0]]));
        let lone = ["encoder.embed_tokens.weight", "encoder.block.0.weight"];
        assert_eq!(pick(&lone), ByName::One(lone[0]));
    }

    #[test]
    fn a_unique_suffix_is_taken_and_a_second_one_is_not() {
        let name = "base_model.model.model.embed_tokens.weight";
        assert_eq!(pick(&["x.weight", name]), ByName::One(name));
        let two = [
            "encoder.bert.embeddings.word_embeddings.weight",
            "decoder.bert.embeddings.word_embeddings.weight",
        ];
        assert_eq!(pick(&two), ByName::Several(two.to_vec()));
    }

    #[test]
    fn a_suffix_is_made_of_whole_components() {
        for name in [
            "not_wte.weight",
            "my_embed_tokens.weight",
            "x.embed_tokens.bias",
            "x.shared.weight",
            "x.emb.weight",
        ] {
            assert_eq!(pick(&[name]), ByName::Nothing, "{name}");
        }
    }

    #[test]
    fn positions_types_and_heads_are_never_picked() {
        let config = Config::default();
        for name in [
            "embeddings.position_embeddings.weight",
            "bert.embeddings.token_type_embeddings.weight",
            "transformer.wpe.weight",
            "model.decoder.embed_positions.weight",
            "vision_model.pos_embed",
            "lm_head.weight",
            "output.weight",
            "embed_out.weight",
            "cls.predictions.decoder.weight",
            "classifier.weight",
        ] {
            assert!(!has_form(name, Shape("512,768"), config), "{name}");
            assert_eq!(pick(&[name]), ByName::Nothing, "{name}");
        }
        assert_eq!(pick(&["position_encoder.embed_tokens.weight"]), ByName::Nothing);
    }

    #[test]
    fn a_form_has_two_dimensions_as_the_config_says() {
        let config = Config { vocab_size: Some(100), hidden_size: Some(8), ..Config::default() };
        assert!(has_form("any", Shape("100,8"), config));
        assert!(!has_form("any", Shape("101,8"), config));
        assert!(!has_form("any", Shape("100,4"), config));
        assert!(!has_form("any", Shape("100"), Config::default()));
        assert!(!has_form("any", Shape("100,8,1"), Config::default()));
        assert!(!has_form("any", Shape(""), Config::default()));
    }

    #[test]
    fn a_head_is_taken_only_where_it_is_tied() {
        let tied = Config { tie_word_embeddings: Some(true), ..Config::default() };
        let untied = Config { tie_word_embeddings: Some(false), ..Config::default() };
        let names = ["model.norm.weight", "lm_head.weight"];
        assert_eq!(tied_head(names.into_iter(), tied), Some("lm_head.weight"));
        assert_eq!(tied_head(names.into_iter(), untied), None);
        assert_eq!(tied_head(names.into_iter(), Config::default()), None);
        assert_eq!(tied_head(["a.lm_head.weight", "b.lm_head.weight"].into_iter(), tied), None);
        assert_eq!(tied_head(["my_lm_head.weight"].into_iter(), tied), None);
    }
}
