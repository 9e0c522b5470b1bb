"""Reads what embmap exports with the libraries that its formats belong to, and compares every bit.

    python3 export.py EMBMAP

The tables hold random bits, NaNs with payloads, infinities, subnormals and both zeros. What embmap
reads back of its own exports is compared too.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import pyarrow.parquet
import safetensors
from finalfusion.compat import load_text, load_text_dims, load_word2vec
from gensim.models import KeyedVectors
from tokenizers import Tokenizer

DIM, VOCAB = 7, 300
# The bytes of a number, and the type that has as many bits.
BITS = {"f32": numpy.uint32, "f16": numpy.uint16, "bf16": numpy.uint16, "f64": numpy.uint64}
# What a reader of text may do to a NaN.
EXPONENT = {"f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80, "f64": 0x7FF0000000000000}


def run(*arguments):
    done = subprocess.run([str(part) for part in arguments], capture_output=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def rows_of(dtype):
    """Random bits of a type, all that is odd about numbers among them."""
    bits = BITS[dtype]
    random = numpy.random.default_rng(len(dtype) + bits(0).itemsize)
    rows = random.integers(0, numpy.iinfo(bits).max, (VOCAB, DIM), bits, endpoint=True)
    exponent = EXPONENT[dtype]
    sign = 1 << (8 * bits(0).itemsize - 1)
    quiet = (exponent >> 1) & ~exponent & numpy.iinfo(bits).max
    odd = [0, sign, 1, sign | 1, exponent, sign | exponent, exponent - 1, exponent | quiet | 1]
    rows[0] = odd[:DIM]
    rows[1] = odd[-1]
    return rows


def wider(rows, dtype):
    """The numbers of a type as float32, or as float64 where they are such."""
    if dtype == "bf16":
        return (rows.astype(numpy.uint32) << 16).view(numpy.float32)
    if dtype == "f16":
        return rows.view(numpy.float16).astype(numpy.float32)
    return rows.view(numpy.float32 if dtype == "f32" else numpy.float64)


def same(found, expected, what, payloads=True):
    """Every bit; without payloads a NaN is a NaN."""
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    assert found.dtype == expected.dtype, (what, found.dtype, expected.dtype)
    bits = numpy.dtype(f"u{found.dtype.itemsize}")
    equal = numpy.ascontiguousarray(found).view(bits) == numpy.ascontiguousarray(expected).view(bits)
    if not payloads:
        equal |= numpy.isnan(found) & numpy.isnan(expected)
    assert equal.all(), f"{what}: rows {numpy.flatnonzero(~equal.all(axis=1))[:5]} differ"
    print(f"{what}: {len(found)} rows equal")


def write_safetensors(path, dtype, rows):
    names = {"f32": "F32", "f16": "F16", "bf16": "BF16", "f64": "F64"}
    entry = {"dtype": names[dtype], "shape": list(rows.shape), "data_offsets": [0, rows.nbytes]}
    header = json.dumps({"embedding.weight": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + rows.tobytes())


def make_table(embmap, folder, dtype, tokens):
    """An .emb file of rows of a type."""
    model = folder / f"model-{dtype}"
    model.mkdir()
    rows = rows_of(dtype)
    write_safetensors(model / "model.safetensors", dtype, rows)
    if tokens is not None:
        (model / "vocab.txt").write_text("".join(token + "\n" for token in tokens), newline="")
    table = folder / f"{dtype}.emb"
    run(embmap, "convert", model, "-o", table)
    return table, rows


def check_safetensors(embmap, folder, table, dtype, rows, tokens):
    out = folder / f"out-{dtype}"
    out.mkdir()
    run(embmap, "export", table, "-o", out / "model.safetensors")
    [(name, tensor)] = safetensors.deserialize((out / "model.safetensors").read_bytes())
    assert name == "embedding.weight"
    assert tensor["shape"] == [VOCAB, DIM], tensor["shape"]
    assert tensor["dtype"] == {"f32": "F32", "f16": "F16", "bf16": "BF16", "f64": "F64"}[dtype]
    found = numpy.frombuffer(tensor["data"], BITS[dtype]).reshape(VOCAB, DIM)
    same(found, rows, f"safetensors, {dtype}")
    assert (out / "vocab.txt").read_text().split("\n") == [*tokens, ""]
    again = folder / f"again-{dtype}.emb"
    run(embmap, "convert", out, "-o", again)
    check_same_table(embmap, again, table, f"safetensors, {dtype}, by embmap")


def check_same_table(embmap, one, other, what):
    """All rows and tokens of two tables, as embmap tells them."""
    ids = "\n".join(str(row) for row in range(VOCAB)).encode()
    told = []
    for table in (one, other):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows"
            command = [embmap, "gather", table, "--ids", "-", "--raw", "--dtype", "native", "-o", out]
            subprocess.run([str(part) for part in command], input=ids, check=True, capture_output=True)
            rows = out.read_bytes()
        lines = subprocess.run(
            [embmap, "get", table, "-", "--json"], input=ids, check=True, capture_output=True
        ).stdout.splitlines()
        told.append((rows, [json.loads(line)["token"] for line in lines]))
    assert told[0][0] == told[1][0], f"{what}: rows differ"
    assert told[0][1] == told[1][1], f"{what}: tokens differ"
    print(f"{what}: equal")


def check_npy(embmap, folder, table, dtype, rows):
    path = folder / f"{dtype}.npy"
    run(embmap, "export", table, "-o", path)
    found = numpy.load(path)
    same(found, rows.view({"f32": "<f4", "f16": "<f2", "f64": "<f8"}[dtype]), f"npy, {dtype}")


def check_named(embmap, folder, table, dtype, rows, tokens):
    """The formats of word2vec and GloVe, as gensim reads them."""
    expected = wider(rows, dtype)
    for name, options in (
        ("w2v", {"binary": False}),
        ("glove", {"binary": False, "no_header": True}),
        ("bin", {"binary": True}),
    ):
        if name == "bin" and dtype == "f64":
            continue
        path = folder / f"{dtype}.{name}"
        run(embmap, "export", table, "-o", path)
        with numpy.errstate(all="ignore"):
            found = KeyedVectors.load_word2vec_format(path, datatype=expected.dtype.type, **options)
        assert found.index_to_key == tokens, name
        same(found.vectors, expected, f"{name}, {dtype}", payloads=name == "bin" and dtype == "f32")


def check_finalfusion(embmap, folder, tokens):
    """finalfusion keeps rows at length 1 and their norms beside them, so that bits do not last."""
    rows = numpy.random.default_rng(1).standard_normal((VOCAB, DIM), numpy.float32)
    model = folder / "model-tame"
    model.mkdir()
    write_safetensors(model / "model.safetensors", "f32", rows)
    (model / "vocab.txt").write_text("".join(token + "\n" for token in tokens), newline="")
    for name, load in (("w2v", load_text_dims), ("glove", load_text), ("bin", load_word2vec)):
        path = folder / f"tame.{name}"
        run(embmap, "export", model, "-o", path)
        found = load(str(path))
        assert found.vocab.words == tokens, name
        again = numpy.asarray(found.storage) * numpy.asarray(found.norms)[:, None]
        assert numpy.allclose(again, rows, rtol=1e-5, atol=1e-6), name
        print(f"{name}, f32, by finalfusion: {len(again)} rows close")


def check_parquet(embmap, folder, table, dtype, rows, tokens):
    path = folder / f"{dtype}.parquet"
    run(embmap, "export", table, "-o", path)
    found = pyarrow.parquet.read_table(path)
    wanted = {"f32": pyarrow.float32(), "f16": pyarrow.float16(), "f64": pyarrow.float64()}[dtype]
    item = pyarrow.field("item", wanted, nullable=False)
    assert found.schema.field("vector").type == pyarrow.list_(item, DIM), found.schema
    vectors = found["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    same(vectors.reshape(VOCAB, DIM).view(BITS[dtype]), rows, f"parquet, {dtype}")
    if tokens is None:
        assert found.column_names == ["vector"], found.column_names
    else:
        assert found["token"].to_pylist() == tokens
        again = folder / f"parquet-{dtype}.emb"
        run(embmap, "convert", path, "-o", again)
        check_same_table(embmap, again, table, f"parquet, {dtype}, by embmap")


def check_word_level(embmap, folder):
    """Tokens that no vocab.txt holds, as a tokenizer of nothing but tokens."""
    table, rows = folder / "odd.emb", rows_of("f32")
    tokens = {0: "a\nb", 1: "\"quoted\" \\", 3: "Ġà", 7: "", 9: "\u2028猫"}
    model = folder / "odd"
    model.mkdir()
    write_safetensors(model / "model.safetensors", "f32", rows)
    vocab = {token: token_id for token_id, token in tokens.items()}
    (model / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocab}}))
    run(embmap, "convert", model, "-o", table)
    # A range has tokens, and no tokenizer.
    out = folder / "odd-out"
    out.mkdir()
    run(embmap, "export", table, "--rows", "0:10", "-o", out / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    assert tokenizer.get_vocab() == vocab, tokenizer.get_vocab()
    print(f"tokenizer.json: {len(vocab)} tokens as Python's tokenizers reads them")


def check_quantized(embmap, folder):
    """Blocks are decoded, as gathers decode them."""
    model = Path(__file__).resolve().parents[2] / "fixtures" / "gguf" / "model.gguf"
    path, gathered = folder / "quantized.npy", folder / "gathered.npy"
    run(embmap, "export", model, "--dtype", "f32", "-o", path)
    found = numpy.load(path)
    ids = folder / "ids.npy"
    numpy.save(ids, numpy.arange(len(found)))
    run(embmap, "gather", model, "--ids", ids, "-o", gathered)
    same(found, numpy.load(gathered), "npy, decoded blocks")


def main(embmap):
    tokens = [f"Ġtoken-{row}-é猫"[row % 3 :] for row in range(VOCAB)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for dtype in BITS:
            table, rows = make_table(embmap, folder, dtype, tokens)
            check_safetensors(embmap, folder, table, dtype, rows, tokens)
            check_named(embmap, folder, table, dtype, rows, tokens)
            if dtype != "bf16":
                check_npy(embmap, folder, table, dtype, rows)
                check_parquet(embmap, folder, table, dtype, rows, tokens)
        check_finalfusion(embmap, folder, tokens)
        check_word_level(embmap, folder)
        check_quantized(embmap, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
