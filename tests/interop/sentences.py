"""Compares vectors of texts with those of model2vec, and of sentence-transformers where it is
installed, on the same files.

    python3 sentences.py EMBMAP MODEL_DIRECTORY

MODEL_DIRECTORY holds a table and its tokenizer.json: the fixture, or a whole model. Static models
of every kind are made of them.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from model2vec import StaticModel
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

try:
    from sentence_transformers import SentenceTransformer
except ImportError:
    SentenceTransformer = None

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "fixtures" / "text" / "english.txt"
CLOSE = 1e-6


def texts():
    """Lines of a page, and what is odd."""
    page = PAGE.read_text()
    lines = [line for line in page.splitlines() if line.strip()]
    odd = ["Cat", "the [SEP] cat", "  café  naïve\u0301 ", "猫 cat", "xyzzy cat", "don't stop-it", "cat\u0000s", "x" * 300 + " cat"]
    return lines + odd + [page.replace("\n", " ") * 3]


def embed(embmap, table, lines, *options):
    """The vectors of lines of text, by embmap."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vectors.npy"
        command = [embmap, "embed", table, "-", "--allow-empty", "-o", out, *options]
        stdin = "\n".join(lines).encode()
        done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command}: exit {done.returncode}: {done.stderr.decode()}")
        return numpy.load(out)


def same(found, expected, what):
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    assert numpy.isfinite(expected).all() and numpy.abs(expected).max(axis=1).all(), what
    worst = float(numpy.abs(found.astype("f8") - expected.astype("f8")).max())
    assert worst <= CLOSE, f"{what}: off by {worst}"
    print(f"{what}: {len(found)} vectors, off by {worst:.1e} at most")


def write(folder, tensors, tokenizer, **files):
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def main(embmap, model):
    # The table: the one tensor of two dimensions that has a row for each token.
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tensors = load_file(model / "model.safetensors")
    count = tokenizer.get_vocab_size()
    (rows,) = (tensor for tensor in tensors.values() if tensor.ndim == 2 and len(tensor) == count)
    rows = rows.astype("f4")
    lines = texts()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    random = numpy.random.default_rng(5)
    mapping = random.integers(0, 500, count)
    weights = random.uniform(0.1, 3, count)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        kinds = {
            "plain": ({"embeddings": rows}, {"normalize": False}),
            "normalized": ({"embeddings": rows}, {"normalize": True}),
            "short": ({"embeddings": rows}, {"max_length": 5}),
            "whole": ({"embeddings": rows}, {"max_length": None}),
            "mapped": ({"embeddings": rows[:500].copy(), "mapping": mapping}, {"normalize": True}),
            "weighed": (
                {"embeddings": rows[:500].copy(), "mapping": mapping, "weights": weights},
                {"normalize": True},
            ),
        }
        for name, (tensors, config) in kinds.items():
            directory = write(folder / name, tensors, tokenizer, config=config)
            oracle = StaticModel.from_pretrained(directory)
            # What no token is left of has a vector of zeros in both.
            kept = [line for line in lines if numpy.any(oracle.encode([line]))]
            assert len(kept) >= 10, name
            expected = oracle.encode(kept)
            same(embed(embmap, directory, kept), expected, f"model2vec, {name}")
            emb = folder / f"{name}.emb"
            subprocess.run([embmap, "convert", directory, "-o", emb, "-q"], check=True)
            same(embed(embmap, emb, kept), expected, f"model2vec, {name}, converted")
        zeros = embed(embmap, folder / "plain", ["", "xyzzy"])
        assert len(oracle.encode(["", "xyzzy"])) == 2 and not zeros[0].any()

        # The table by itself: what model2vec makes of its rows when told to keep unknown words.
        assert oracle.unk_token_id is not None
        oracle = StaticModel(rows, tokenizer, max_length=None)
        oracle.unk_token_id = None
        same(embed(embmap, model, lines), oracle.encode(lines), "a table by itself")
        found = embed(embmap, model, lines, "--normalize")
        same(found, oracle.encode(lines, normalize=True), "a table by itself, normalized")

        static = folder / "static"
        tokenizer.enable_truncation(7)
        write(static / "0_StaticEmbedding", {"embedding.weight": rows}, tokenizer)
        module = "sentence_transformers.sentence_transformer.modules"
        modules = [
            {"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": f"{module}.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": f"{module}.Normalize"},
        ]
        (static / "1_Normalize").mkdir()
        (static / "modules.json").write_text(json.dumps(modules))
        (static / "config_sentence_transformers.json").write_text("{}")
        found = embed(embmap, static, lines)
        # As its source has it: a mean over all ids, unknown ones too, then length 1.
        ids = [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]
        means = numpy.stack([rows[own].mean(axis=0, dtype="f8") for own in ids])
        expected = means / numpy.linalg.norm(means, axis=1, keepdims=True)
        same(found, expected, "StaticEmbedding, by its source")
        if SentenceTransformer is not None:
            oracle = SentenceTransformer(str(static), device="cpu")
            same(found, oracle.encode(lines), "StaticEmbedding, the package")
        else:
            print("sentence-transformers is not installed: only its source's rule was compared")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
