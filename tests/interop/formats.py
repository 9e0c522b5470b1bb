"""Files of the libraries that each format belongs to, converted by embmap, every bit compared.

    python3 formats.py EMBMAP

Each file is written by its own library, or read by it for the oracle: numpy, safetensors, gensim,
finalfusion, pyarrow, pandas, polars, model2vec, zstandard. What embmap makes of it is read back by
the independent reader of docs/format.md, and must hold the same bits and the same tokens. The way
out is export.py's.
"""

import contextlib
import gzip
import io
import itertools
import json
import logging
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import gensim
import ml_dtypes
import model2vec
import numpy
import pandas
import polars
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import read_emb
import safetensors.numpy
import tokenizers
import zstandard
from finalfusion import Embeddings
from finalfusion.compat import write_text, write_text_dims, write_word2vec
from finalfusion.norms import Norms
from finalfusion.storage import NdArray
from finalfusion.vocab import SimpleVocab

DTYPES = {
    "f32": numpy.dtype("<f4"),
    "f16": numpy.dtype("<f2"),
    "f64": numpy.dtype("<f8"),
    "bf16": numpy.dtype(ml_dtypes.bfloat16),
    "i8": numpy.dtype("i1"),
    "u8": numpy.dtype("u1"),
}
random = numpy.random.default_rng(20261125)
warnings.simplefilter("ignore", RuntimeWarning)
logging.disable(logging.WARNING)


def numbers(dtype, vocab, dim, finite=False):
    """Random bits: subnormals, both zeros, the extremes, and infinities and NaNs with payloads."""
    dtype = DTYPES[dtype]
    rows = random.integers(0, 256, (vocab, dim * dtype.itemsize), numpy.uint8).view(dtype)
    if dtype.kind in "iu":
        return rows
    limits = ml_dtypes.finfo(dtype)
    odd = [0.0, -0.0, limits.smallest_subnormal, -limits.smallest_subnormal, limits.smallest_normal]
    odd += [limits.max, limits.min, numpy.inf, -numpy.inf, numpy.nan, 1 / 3]
    odd = numpy.array(odd).astype(dtype)
    places = random.choice(rows.size, min(rows.size, 3 * len(odd)), replace=False)
    rows.reshape(-1)[places] = numpy.resize(odd, len(places))
    if finite:
        rows[~numpy.isfinite(rows.astype("f8"))] = limits.max
    return rows


def words(count):
    """Tokens without white space: every script, what other formats give a meaning, numbers."""
    odd = ["the", "Ġcat", "▁été", "日本", "\u00a0", "\u2028x", "\u200d", "0.5", "-1", "nan", "1e9", '"', "\\", ","]
    odd += ["</s>", "#", "😀", "e\u0301", "\u00e9", "\u0085", "NULL", "%s", "'", "x" * 300]
    return (odd + [f"w{number}" for number in range(count)])[:count]


class Embmap:
    """The command line, and what it writes as the independent reader has it."""

    def __init__(self, program, folder):
        self.program, self.folder, self.count = program, folder, 0

    def run(self, *arguments, stdin=None):
        command = [str(part) for part in (self.program, *arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, check=False)

    def refused(self, what, source, *options, says):
        out = self.folder / "refused.emb"
        done = self.run("convert", source, "-o", out, *options)
        message = done.stderr.decode()
        assert done.returncode in (1, 2), f"{what}: exit {done.returncode}: {message}"
        assert says in message, f"{what}: {says!r} is not in {message!r}"
        assert not out.exists() and not list(self.folder.glob(".*")), f"{what}: something is left"
        self.count += 1

    def same(self, what, source, rows, tokens=(), *options, stdin=None, payloads=True):
        """Converts a source, and compares the rows and the tokens of what comes out."""
        out = self.folder / "out.emb"
        done = self.run("convert", source, "-o", out, "--force", *options, stdin=stdin)
        if done.returncode != 0:
            raise SystemExit(f"{what}: exit {done.returncode}: {done.stderr.decode()}")
        table = read_emb.check(out)
        stored = numpy.frombuffer(table.data, "u1", table.vocab * table.row_stride, 65536)
        stored = stored.reshape(table.vocab, table.row_stride)[:, : table.row_bytes]
        compare(what, stored, table.dtype, rows, payloads)
        found = table.tokens()
        if found != list(tokens):
            pairs = itertools.zip_longest(found, tokens)
            odd = next((at, one, other) for at, (one, other) in enumerate(pairs) if one != other)
            raise SystemExit(f"{what}: {len(found)} tokens, expected {len(tokens)}: {odd}")
        self.count += 1

    def same_in_place(self, what, path, rows, *options):
        """Gathers every row of a file that is opened where it lies."""
        out = self.folder / "rows"
        ids = "\n".join(map(str, range(len(rows)))).encode()
        ask = ["--ids", "-", "--raw", "--dtype", "native", "--force", "-o", out]
        done = self.run("gather", path, *ask, *options, stdin=ids)
        assert done.returncode == 0, f"{what}: {done.stderr.decode()}"
        found = numpy.fromfile(out, "u1").reshape(len(rows), -1)
        compare(f"{what}, in place", found, None, rows, True)
        self.count += 1


def compare(what, stored, dtype, rows, payloads):
    """Every bit of encoded rows; without payloads a NaN is a NaN."""
    rows = numpy.ascontiguousarray(rows)
    own = rows.dtype.newbyteorder("<") if rows.dtype.kind == "f" else rows.dtype
    rows = rows.astype(own)
    name = next(name for name, known in DTYPES.items() if known == own)
    assert dtype in (None, name), f"{what}: {dtype}, expected {name}"
    assert stored.shape == (len(rows), rows[0].nbytes), f"{what}: {stored.shape}, {rows.shape}"
    equal = stored == rows.view("u1")
    if not payloads:
        both = numpy.isnan(numpy.ascontiguousarray(stored).view(own)) & numpy.isnan(rows)
        equal = equal.reshape(*rows.shape, own.itemsize) | both[:, :, None]
    if not equal.all():
        row = numpy.flatnonzero(~equal.reshape(len(rows), -1).all(axis=1))[0]
        pair = numpy.ascontiguousarray(stored[row]).view(own), rows[row]
        raise SystemExit(f"{what}: row {row} differs:\n{pair[0]}\n{pair[1]}")


def numpy_arrays(embmap, folder):
    path = folder / "rows.npy"
    versions = itertools.cycle([(1, 0), (2, 0), (3, 0)])
    for dtype, vocab, dim in itertools.product(DTYPES, (1, 300), (1, 7)):
        rows = numbers(dtype, vocab, dim)
        for order, big in itertools.product("CF", (False, True)):
            if big and rows.dtype.kind != "f":
                continue
            version = next(versions)
            array = rows.astype(rows.dtype.newbyteorder(">")) if big else rows
            with open(path, "wb") as file:
                numpy.lib.format.write_array(file, numpy.asarray(array, order=order), version)
            what = f"npy {version}, {dtype} {rows.shape}, {order}, big-endian {big}"
            embmap.same(what, path, rows)
            if order == "C" and not big:
                embmap.same_in_place(what, path, rows)
    large = numbers("f32", 3001, 300)
    numpy.save(path, large)
    embmap.same("npy from standard input", "-", large, stdin=path.read_bytes())
    numpy.save(path, numpy.asfortranarray(large))
    embmap.same("npy in Fortran order, several blocks", path, large)
    embmap.same("npy in Fortran order, a range", path, large[1000:2999], (), "--rows", "1000:2999")


def numpy_archives(embmap, folder):
    path = folder / "rows.npz"
    arrays = {"a": numbers("f16", 200, 9), "b": numbers("f64", 50, 3), "c": numbers("f32", 3001, 100)}
    for save, name in ((numpy.savez, "stored"), (numpy.savez_compressed, "deflated")):
        for order in "CF":
            for dtype, big in (("f32", False), ("f16", True), ("f64", False), ("i8", False)):
                rows = numbers(dtype, 211, 13)
                array = rows.astype(rows.dtype.newbyteorder(">")) if big else rows
                save(path, numpy.asarray(array, order=order))
                what = f"npz, {name}, {dtype}, {order}"
                if (order, name) == ("F", "deflated"):
                    embmap.refused(what, path, says="Fortran order")
                    continue
                embmap.same(what, path, rows)
                if (order, name, big) == ("C", "stored", False):
                    embmap.same_in_place(what, path, rows)
        save(path, **arrays)
        for member, rows in arrays.items():
            embmap.same(f"npz, {name}, {member}", path, rows, (), "--member", member)
        embmap.refused(f"npz, {name}, three arrays", path, says="expected one")


def tokenizer_of(tokens):
    """A tokenizer of whole words, of which the first is that of unknown ones."""
    vocab = {token: number for number, token in enumerate(tokens)}
    return tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token=tokens[0]))


def safetensors_files(embmap, folder):
    model = folder / "model"
    model.mkdir()
    path, tokens = model / "model.safetensors", words(300)
    for dtype in DTYPES:
        rows = numbers(dtype, 300, 11)
        (model / "tokenizer.json").unlink(missing_ok=True)
        # A tensor of an odd number of bytes before it: rows may lie anywhere.
        tensors = {"embedding.weight": rows, "a": numbers("u8", 1, 3)[0]}
        safetensors.numpy.save_file(tensors, path)
        embmap.same(f"safetensors, {dtype}", path, rows)
        tokenizer_of(tokens).save(str(model / "tokenizer.json"))
        embmap.same(f"safetensors, {dtype}, a directory", model, rows, tokens)
        embmap.same_in_place(f"safetensors, {dtype}", model, rows)


def key_vectors(rows, tokens):
    vectors = gensim.models.KeyedVectors(rows.shape[1], dtype=rows.dtype)
    vectors.add_vectors(tokens, rows)
    return vectors


def gensim_files(embmap, folder):
    """What gensim writes; and what gensim reads, where it is not the one that writes."""
    for dtype, shape in (("f32", (1, 1)), ("f32", (400, 7)), ("f32", (4000, 100)), ("f64", (300, 5))):
        rows, tokens = numbers(dtype, *shape), words(shape[0])
        vectors = key_vectors(rows, tokens)
        keep = ("--dtype", "f64") if dtype == "f64" else ()
        for name, options in (
            ("x.vec", {}), ("x.w2v.gz", {}), ("x.txt", {"write_header": False}),
            ("x.bin", {"binary": True}), ("x.bin.gz", {"binary": True}),
        ):
            path = folder / name
            vectors.save_word2vec_format(path, **options)
            expected, options = rows, keep
            if ".bin" in name:
                expected, options = rows.astype("f4"), ()
            payloads = ".bin" in name and dtype == "f32"
            if name == "x.txt" and shape == (1, 1):
                options = ("--from", "glove")
            what = f"gensim {name}, {dtype} {shape}"
            embmap.same(what, path, expected, tokens, *options, payloads=payloads)
            if shape != (400, 7):
                continue
            stdin = path.read_bytes()
            embmap.same(f"{what}, stdin", "-", expected, tokens, *options, payloads=payloads, stdin=stdin)
    path = folder / "odd.vec"

    def read_by_gensim(what, data, *options, **more):
        path.write_bytes(data)
        found = gensim.models.KeyedVectors.load_word2vec_format(path, **more)
        # Where there are twins, gensim leaves room behind the rows.
        tokens = list(found.key_to_index)
        embmap.same(what, path, found.vectors[: len(tokens)], tokens, *options, payloads=False)

    lines = [b"the 0.1 1e-45 -0", b"caf\xe9 3.4028235e38 nan -inf", b"\xff\xfe 1 2 3", b"\xe6\x97 +1 .5 5.", b"e 0 0 0"]
    for encoding, asked in (("utf8", "lossy"), ("latin1", "latin1")):
        more = {"encoding": encoding, "unicode_errors": "replace"}
        text = b"\n".join([b"5 3", *lines])
        read_by_gensim(f"word2vec, {asked}", text, "--encoding", asked, **more)
        read_by_gensim(f"glove, {asked}", b"\n".join(lines), "--encoding", asked, no_header=True, **more)
        packed = b"".join(line.split()[0] + b" " + numbers("f32", 1, 3).tobytes() + b"\n" for line in lines)
        read_by_gensim(f"binary, {asked}", b"5 3\n" + packed, "--encoding", asked, binary=True, **more)
    path.write_bytes(b"\n".join(lines))
    embmap.refused("bytes that are not UTF-8", path, says="line 2")
    # fastText ends its lines by a space; gensim and fastText itself read them so.
    fast = "".join(f"{token} {' '.join(f'{x:.5g}' for x in row)} \n" for token, row in zip(words(50), random.normal(size=(50, 8))))
    read_by_gensim("fastText .vec", f"50 8\n{fast}".encode())
    read_by_gensim("CRLF", f"50 8\n{fast}".replace("\n", "\r\n").encode())
    twins = "a 1 2\nb 3 4\na 5 6\nc 7 8\nb 9 10\n"
    read_by_gensim("the first of twins", twins.encode(), "--duplicates", "first", no_header=True)
    embmap.same("the last of twins", path, numpy.array([[5, 6], [7, 8], [9, 10]], "f4"), ["a", "c", "b"], "--duplicates", "last")
    embmap.refused("twins", path, says="line 3")
    embmap.refused("twins", path, says="line 1")


def glove_text(embmap, folder):
    """Tokens with spaces, split as Stanford's own files must be: from the right."""
    path = folder / "glove.840B.300d.txt"
    tokens = [". . .", "at name@domain.com", "the", "to be or not", "\u00a0", "a\tb", "x  y", " lead", "日 本", "1 / 2 x"]
    rows = numbers("f32", len(tokens), 6, finite=True)
    lines = [f"{token} {' '.join(map(str, row))}" for token, row in zip(tokens, rows)]
    split = [line.rsplit(" ", 6) for line in lines]
    assert [parts[0] for parts in split] == tokens
    for name, text in (
        ("plain", "\n".join(lines) + "\n"), ("no last newline", "\n".join(lines)),
        ("BOM", "\ufeff" + "\n".join(lines) + "\n"), ("CRLF", "\r\n".join(lines) + "\r\n"),
        ("a space at the end", " \n".join(lines) + " \n"),
    ):
        path.write_text(text, newline="")
        embmap.same(f"GloVe with spaces, {name}", path, rows, tokens)
    empty = ["", "a", "b"]
    path.write_text("".join(f"{token} 1 2 3\n" for token in empty))
    embmap.same("GloVe, an empty token", path, numpy.array([[1, 2, 3]] * 3, "f4"), empty)
    ending = ["web 2.0", "boeing 747", "the"]
    path.write_text("".join(f"{token} 1 2 3\n" for token in ending))
    embmap.same("GloVe, --dim", path, numpy.array([[1, 2, 3]] * 3, "f4"), ending, "--dim", "3")


def finalfusion_files(embmap, folder):
    rows, tokens = random.normal(size=(300, 9)).astype("f4"), words(300)
    norms = numpy.linalg.norm(rows, axis=1)
    unit = rows / norms[:, None]
    embeddings = Embeddings(NdArray(unit), SimpleVocab(tokens), norms=Norms(norms))
    expected = unit * norms[:, None]
    for name, write in (("x.vec", write_text_dims), ("glove.txt", write_text), ("x.bin", write_word2vec)):
        write(folder / name, embeddings)
        embmap.same(f"finalfusion {name}", folder / name, expected, tokens)


def packed_streams(embmap, folder):
    """Text, binary and arrays as gzip and zstd: of several members and frames, from a file and not."""
    rows, tokens = numbers("f32", 3000, 40), words(3000)
    vectors, array = key_vectors(rows, tokens), io.BytesIO()
    numpy.save(array, rows)
    files = {"rows.npy": array.getvalue()}
    for name, options in (("x.vec", {}), ("x.bin", {"binary": True})):
        vectors.save_word2vec_format(folder / name, **options)
        files[name] = (folder / name).read_bytes()
    level = zstandard.ZstdCompressor(level=19, write_checksum=True, write_content_size=False)
    for name, data in files.items():
        half = len(data) // 2
        streaming = zstandard.ZstdCompressor(level=1).compressobj()
        for end, how, packed in (
            ("gz", "one member", gzip.compress(data)),
            ("gz", "two members", gzip.compress(data[:half], 1) + gzip.compress(data[half:], 9)),
            ("zst", "one frame", zstandard.compress(data)),
            ("zst", "two frames", level.compress(data[:half]) + zstandard.compress(data[half:])),
            ("zst", "a stream", streaming.compress(data) + streaming.flush()),
        ):
            path = folder / f"{name}.{end}"
            path.write_bytes(packed)
            expected = () if name == "rows.npy" else tokens
            what = f"{name}.{end}, {how}"
            embmap.same(what, path, rows, expected, payloads=name != "x.vec")
            embmap.same(f"{what}, stdin", "-", rows, expected, payloads=name != "x.vec", stdin=packed)
    with zipfile.ZipFile(folder / "glove.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.6B.50d.txt", files["x.vec"].split(b"\n", 1)[1])
    embmap.same("text in a zip archive", folder / "glove.zip", rows, tokens, payloads=False)
    for dtype, own in DTYPES.items():
        rows = numbers(dtype, 500, 9)
        rows.tofile(folder / "rows.raw")
        ask = ("--from", "raw", "--dim", "9", "--raw-dtype", dtype)
        embmap.same(f"raw {dtype}", folder / "rows.raw", rows, (), *ask)


ARROW_TYPES = {
    "f32": pyarrow.float32(), "f16": pyarrow.float16(), "f64": pyarrow.float64(),
    "i8": pyarrow.int8(), "u8": pyarrow.uint8(),
}
LISTS = {
    "fixed": lambda item, dim: pyarrow.list_(item, dim),
    "list": lambda item, dim: pyarrow.list_(item),
    "large": lambda item, dim: pyarrow.large_list(item),
}
TEXTS = {
    "string": pyarrow.string(), "large": pyarrow.large_string(), "view": pyarrow.string_view(),
    "dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
}


def columns(rows, tokens, kind, text):
    """A table with a column of vectors, one of tokens where there are any, and another."""
    dtype = next(name for name, known in DTYPES.items() if known == rows.dtype)
    flat = pyarrow.array(rows.reshape(-1), ARROW_TYPES[dtype])
    fixed = pyarrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    held = {"id": pyarrow.array(range(len(rows))), "vector": fixed.cast(LISTS[kind](ARROW_TYPES[dtype], rows.shape[1]))}
    if tokens:
        held["word"] = pyarrow.array(tokens, pyarrow.string()).cast(TEXTS[text])
    return pyarrow.table(held)


def parquet_files(embmap, folder):
    path = folder / "rows.parquet"
    tokens = [None, "", "two words", "a\nb", *words(900)[:-4]]
    for number, (dtype, kind, text) in enumerate(itertools.product(ARROW_TYPES, LISTS, TEXTS)):
        rows = numbers(dtype, 900, 12)
        table = columns(rows, tokens, kind, text)
        options = {
            "row_group_size": (900, 100, 7)[number % 3],
            "compression": ("none", "snappy", "gzip", "lz4", "zstd")[number // 4 % 5],
            "use_dictionary": number % 2 == 0,
            "data_page_version": ("1.0", "2.0")[number // 2 % 2],
            "data_page_size": (1 << 20, 1000)[number % 2],
            "write_page_checksum": number % 3 == 0,
            "store_schema": number % 2 == 1,
        }
        pyarrow.parquet.write_table(table, path, **options)
        embmap.same(f"Parquet, {dtype} {kind} {text}, {options}", path, rows, tokens)
    large = numbers("f32", 5000, 64)
    for encoding, text in (("BYTE_STREAM_SPLIT", "DELTA_BYTE_ARRAY"), ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY")):
        table = columns(large, words(5000), "list", "string")
        encodings = {"vector.list.element": encoding, "word": text}
        pyarrow.parquet.write_table(table, path, use_dictionary=False, column_encoding=encodings)
        embmap.same(f"Parquet, {encoding}, {text}", path, large, words(5000))
    embmap.same("Parquet, a range", path, large[1234:4321], words(5000)[1234:4321], "--rows", "1234:4321")
    embmap.same("Parquet without tokens", path, large, (), "--token-column", "none")
    two = table.append_column("other", table["vector"])
    pyarrow.parquet.write_table(two, path)
    embmap.refused("Parquet, two columns of vectors", path, says="--column")
    embmap.same("Parquet, --column", path, large, words(5000), "--column", "other")
    pyarrow.parquet.write_table(table, path, compression="brotli")
    embmap.refused("Parquet, brotli", path, says="snappy")
    for row, (vectors, says) in {
        3: ([[1.0, 2.0]] * 3 + [None], "row 3"), 2: ([[1.0, 2.0]] * 2 + [[1.0, None]], "row 2"),
        1: ([[1.0, 2.0], [1.0]], "row 1"), 0: ([[]], "row 0"),
    }.items():
        table = pyarrow.table({"v": pyarrow.array(vectors, pyarrow.list_(pyarrow.float32()))})
        pyarrow.parquet.write_table(table, path)
        embmap.refused(f"Parquet, {vectors}", path, says=says)


def arrow_files(embmap, folder):
    path = folder / "rows.arrow"
    tokens = [None, "", "two words", "a\nb", *words(900)[:-4]]
    for number, (dtype, kind, text) in enumerate(itertools.product(ARROW_TYPES, LISTS, TEXTS)):
        rows = numbers(dtype, 900, 12)
        table = columns(rows, tokens, kind, text)
        for form, new in (("file", pyarrow.ipc.new_file), ("stream", pyarrow.ipc.new_stream)):
            compression = (None, "lz4", "zstd")[number % 3]
            options = pyarrow.ipc.IpcWriteOptions(compression=compression, unify_dictionaries=form == "file")
            pieces = (900, 100, 7)[number // 2 % 3]
            with new(path, table.schema, options=options) as writer:
                writer.write_table(table, max_chunksize=pieces)
            what = f"Arrow {form}, {dtype} {kind} {text}, {compression}, pieces of {pieces}"
            embmap.same(what, path, rows, tokens)
    # A slice's buffers start in the middle.
    sliced = columns(rows, tokens, "list", "string").slice(11, 500)
    for compression in ("uncompressed", "lz4", "zstd"):
        pyarrow.feather.write_feather(sliced, folder / "x.feather", compression)
        embmap.same(f"Feather, {compression}", folder / "x.feather", rows[11:511], tokens[11:511])
    for vectors, says in (([[1.0, 2.0]] * 3 + [None], "row 3"), ([[1.0, 2.0], [1.0]], "row 1")):
        table = pyarrow.table({"v": pyarrow.array(vectors, pyarrow.list_(pyarrow.float32()))})
        pyarrow.feather.write_feather(table, path, "uncompressed")
        embmap.refused(f"Arrow, {vectors}", path, says=says)


def categories(embmap, folder):
    """Tokens that are categories of pandas and polars, in what both write without being asked."""
    rows, tokens = numbers("f32", 900, 12, finite=True), words(900)
    order = random.permutation(900)
    shuffled = pandas.Categorical.from_codes(numpy.argsort(order), [tokens[at] for at in order])
    for name, of in (("pandas", shuffled), ("pandas, a missing one", [*tokens[:-1], None])):
        frame = pandas.DataFrame({"word": pandas.Series(of, dtype="category" if of is not shuffled else None)})
        frame["vector"] = list(rows)
        expected = [*tokens[:-1], None] if of is not shuffled else tokens
        for write, path in ((frame.to_feather, folder / "x.feather"), (frame.to_parquet, folder / "x.parquet")):
            write(path)
            embmap.same(f"{name}, {path.suffix}", path, rows, expected)
    for kind in (polars.String, polars.Categorical, polars.Enum(tokens[::-1])):
        for width in (polars.Array(polars.Float32, 12), polars.List(polars.Float32)):
            frame = polars.DataFrame(
                {"word": polars.Series(tokens, dtype=polars.String).cast(kind), "vector": polars.Series(rows).cast(width)}
            )
            for compression in ("uncompressed", "lz4", "zstd"):
                frame.write_ipc(folder / "x.arrow", compression=compression)
                embmap.same(f"polars, {kind}, {width}, {compression}", folder / "x.arrow", rows, tokens)
            frame.write_ipc_stream(folder / "x.arrows")
            embmap.same(f"polars, {kind}, {width}, a stream", folder / "x.arrows", rows, tokens)
            # Packed by zstd, unless it is told otherwise.
            frame.write_parquet(folder / "x.parquet")
            embmap.same(f"polars, {kind}, {width}, Parquet", folder / "x.parquet", rows, tokens)


def static_models(embmap, folder):
    """model2vec's own saved models, whose rows are those that its own code looks up."""
    tokens = words(300)
    tokenizer = tokenizer_of(tokens)
    model_folder = folder / "static"
    for dtype, mapping, weights in itertools.product(
        ("f32", "f16", "f64", "i8"), (None, "i8", "i4"), (None, "f4", "f2", "f8")
    ):
        rows = numbers(dtype, 300 if mapping is None else 70, 9)
        parts = {}
        if mapping:
            parts["token_mapping"] = random.integers(0, len(rows), 300).astype(mapping)
        if weights:
            parts["weights"] = random.normal(size=300).astype(weights)
        model = model2vec.StaticModel(rows, tokenizer, config={}, **parts)
        model.save_pretrained(model_folder)
        loaded = model2vec.StaticModel.from_pretrained(model_folder, force_download=False)
        expected = loaded._encode_helper(list(range(300)))
        assert expected.shape == (300, 9)
        what = f"model2vec, {dtype}, mapping {mapping}, weights {weights}"
        embmap.same(what, model_folder, expected, tokens, payloads=weights is None)
    # sentence-transformers' layouts, as model2vec reads them; and what embmap exports in their place.
    for place in (".", "0_StaticEmbedding"):
        for dtype in ("f32", "f16"):
            top = folder / f"st-{dtype}-{place.strip('.')}"
            (top / place).mkdir(parents=True)
            (top / "config_sentence_transformers.json").write_text("{}")
            modules = [{"idx": 0, "name": "0", "path": place.strip("."), "type": "sentence_transformers.models.StaticEmbedding"}]
            (top / "modules.json").write_text(json.dumps(modules))
            rows = numbers(dtype, 300, 9)
            safetensors.numpy.save_file({"embedding.weight": rows}, top / place / "model.safetensors")
            tokenizer.save(str(top / place / "tokenizer.json"))
            expected = model2vec.StaticModel.from_pretrained(top, force_download=False).embedding
            embmap.same(f"StaticEmbedding in {place}, {dtype}", top, expected, tokens)
            embmap.same_in_place(f"StaticEmbedding in {place}, {dtype}", top, expected)
            done = embmap.run("export", embmap.folder / "out.emb", "-o", top / place / "model.safetensors", "--force")
            assert done.returncode == 0, done.stderr.decode()
            again = model2vec.StaticModel.from_pretrained(top, force_download=False)
            assert list(again.tokens) == tokens and again.embedding.tobytes() == rows.tobytes(), place


PARTS = (
    numpy_arrays, numpy_archives, safetensors_files, gensim_files, glove_text, finalfusion_files,
    packed_streams, parquet_files, arrow_files, categories, static_models,
)


def main(program, asked):
    for part in PARTS:
        if asked and part.__name__ not in asked:
            continue
        with tempfile.TemporaryDirectory() as folder:
            embmap = Embmap(program, Path(folder))
            with contextlib.redirect_stderr(io.StringIO()):
                part(embmap, Path(folder))
            print(f"{part.__name__}: {embmap.count} files as they should be")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
