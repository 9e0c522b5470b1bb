"""Files that lie, are cut short, or would run a program: each is refused, cheaply, and leaves nothing.

    python3 hostile.py EMBMAP

The command line converts each of them in an address space of 400 MiB, its program and its threads
included, and in a few seconds. It has to end by itself with exit code 1 or 2 and one message that
says what is wrong and where, and no file may be left behind. Files that libraries wrote are then damaged at
random: those may also convert, but nothing may crash.
"""

import gzip
import io
import os
import pickle
import re
import resource
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import safetensors.numpy
import zstandard

ADDRESS_SPACE, SECONDS = 400 << 20, 20
PLACE = r"line \d+|byte \d+|row \d+"
random = numpy.random.default_rng(20261125)


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Embmap:
    """The command line under limits, in a folder that must stay as it is."""

    def __init__(self, program, folder):
        self.program, self.folder, self.count = program, folder, 0

    def convert(self, path, *options, stdin=None):
        """Exit code and message; the output, where there is one, is removed."""
        before = sorted(os.listdir(self.folder))
        out = self.folder / "out.emb"
        command = [str(part) for part in (self.program, "convert", path, "-o", out, "-j", 2, *options)]
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as given:
            if stdin is not None:
                given.write(stdin)
                given.seek(0)
            child = subprocess.Popen(command, stdin=given, stdout=errors, stderr=errors, preexec_fn=limited)
            try:
                child.wait(SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise SystemExit(f"{path} {options}: still running after {SECONDS} s") from None
            errors.seek(0)
            message = errors.read().decode(errors="replace")
        what = f"{path} {options}: exit {child.returncode}: {message}"
        assert child.returncode in (0, 1, 2), what
        assert "panicked" not in message, what
        if child.returncode == 0:
            out.unlink()
        assert sorted(os.listdir(self.folder)) == before, f"{what}: left {os.listdir(self.folder)}"
        self.count += 1
        return child.returncode, message

    def refuses(self, name, data, says, *options, stdin=None):
        path = self.folder / name
        if data is not None:
            path.write_bytes(data)
        code, message = self.convert("-" if stdin is not None else path, *options, stdin=stdin)
        assert code in (1, 2), f"{name} {options}: converted"
        assert re.search(says, message), f"{name} {options}: no {says!r} in {message!r}"
        assert message.count("embmap: error:") == 1, message
        if data is not None:
            path.unlink()


def npy(descr="<f4", shape="(2, 3)", data=bytes(24), order="False", version=1, length=None, more=""):
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, {more}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


def arrays(embmap):
    good = npy()
    for cut in (*range(7, 12), 60, 100, len(good) - 1):
        embmap.refuses("x.npy", good[:cut], PLACE)
    embmap.refuses("x.npy", good + b"x", PLACE)
    huge = ("(4611686018427387904, 2)", "(4294967296, 4294967296)", "(18446744073709551615, 1)", "(1, 1000000000000)")
    for shape in huge:
        for order in ("False", "True"):
            embmap.refuses("x.npy", npy(shape=shape, order=order), "too large|take|elements")
    embmap.refuses("x.npy", npy(shape="(340282366920938463463374607431768211456, 2)"), PLACE)
    for shape in ("(-1, 3)", "(2, 3", "2", "(2, x)", "(2.0, 3)", "(" * 50000, "__import__('os').system('false')"):
        embmap.refuses("x.npy", npy(shape=shape), PLACE)
    for shape in ("(6,)", "(1, 2, 3)", "()", "(2, 0)"):
        embmap.refuses("x.npy", npy(shape=shape), "two dimensions|column")
    for descr in ("|O", "<U3", "<c8", "<i8", "|S4", "<f3", "<M8[ns]", ""):
        embmap.refuses("x.npy", npy(descr), "objects|expected f4")
    embmap.refuses("x.npy", npy("f4'").replace(b"\"f4'\"", b"[('a', '<f4'), ('b', '|O')]"), "objects|number|expected|" + PLACE)
    embmap.refuses("x.npy", npy(more="'shape': (1, 6), "), PLACE)
    embmap.refuses("x.npy", npy(more="'other': 1, "), PLACE)
    embmap.refuses("x.npy", npy(version=2, length=0xFFFFFFFF), PLACE)
    embmap.refuses("x.npy", npy(version=9), PLACE)
    for keep in (0, 11, 130, len(good) - 1):
        embmap.refuses("-", None, PLACE + "|empty|nothing|first bytes", stdin=good[:keep])
    embmap.refuses("x.npy.gz", gzip.compress(npy(shape="(9000000000, 300)")), PLACE)


def packed(members, compression=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def patched(archive, at, form, *values):
    """An archive whose only central record has other values at a place of it."""
    archive = bytearray(archive)
    struct.pack_into(form, archive, archive.rfind(b"PK\1\2") + at, *values)
    return bytes(archive)


def archives(embmap):
    plain = npy(shape="(1000, 30)", data=random.bytes(120000))
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        good = packed([("a.npy", plain)], compression)
        path = embmap.folder / "good.npz"
        path.write_bytes(good)
        assert embmap.convert(path)[0] == 0
        path.unlink()
        for size in (0, 1, 100, len(plain) - 1, len(plain) + 1, 1 << 31, 0xFFFFFFFE):
            embmap.refuses("x.npz", patched(good, 24, "<I", size), PLACE)
        for size in (0, 5, len(good), 0xFFFFFFFE):
            embmap.refuses("x.npz", patched(good, 20, "<I", size), PLACE)
        embmap.refuses("x.npz", patched(good, 42, "<I", 7), PLACE)
        embmap.refuses("x.npz", patched(good, 42, "<I", 0xFFFFFFF0), PLACE)
        embmap.refuses("x.npz", patched(good, 16, "<I", 12345), PLACE)
        embmap.refuses("x.npz", patched(good, 8, "<H", 1), "encrypted")
        for cut in (4, 30, 5000, len(good) - 60, len(good) - 1):
            embmap.refuses("x.npz", good[:cut], PLACE)
        # What is there is not what the checksum is of.
        broken = bytearray(good)
        broken[60000] ^= 1
        embmap.refuses("x.npz", bytes(broken), PLACE)
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        embmap.refuses("x.npz", packed([("a.npy", plain)], compression), "method")
    embmap.refuses("x.npz", packed([("a.npy", plain), ("a.npy", plain)]), "expected one")
    # Far more than the array that its own header describes, and than the archive declares.
    bomb = packed([("a.npy", npy(data=bytes(300 << 20)))])
    embmap.refuses("x.npz", bomb, PLACE)
    embmap.refuses("x.npz", patched(bomb, 24, "<I", 152), PLACE)
    # A header of a huge array before nothing.
    embmap.refuses("x.npz", packed([("a.npy", npy(shape="(1000000000, 300)"))]), PLACE)
    objects = io.BytesIO()
    numpy.savez(objects, a=numpy.array([[print, 1], [{}, 2]], object))
    embmap.refuses("x.npz", objects.getvalue(), "objects")
    embmap.refuses("x.npz", packed([]), "expected one|member|" + PLACE)


class Payload:
    def __reduce__(self):
        return os.system, ("touch ran-a-pickle",)


def pickles(embmap):
    for protocol in range(6):
        data = pickle.dumps({"weight": Payload()}, protocol)
        for name in ("x.pt", "x.bin", "x.pkl", "x.npy", "x.npz", "x.vec", "x.txt.gz", "x"):
            embmap.refuses(name, data, "safetensors.torch.save_file")
        embmap.refuses("-", None, "safetensors.torch.save_file", stdin=data)
        array = pickle.dumps(numpy.ones((2, 3), "f4"), protocol)
        embmap.refuses("x.npy", array, "safetensors.torch.save_file")
    module = packed([("archive/data.pkl", pickle.dumps(Payload())), ("archive/data/0", bytes(64))], zipfile.ZIP_STORED)
    for name in ("pytorch_model.bin", "x.pt", "x.pth", "x.ckpt", "x.npz", "x.zip", "x"):
        embmap.refuses(name, module, "safetensors.torch.save_file")
    embmap.refuses("x.npz", module, "safetensors.torch.save_file", "--member", "weight")
    objects = io.BytesIO()
    numpy.save(objects, numpy.array([[Payload()]], object))
    embmap.refuses("x.npy", objects.getvalue(), "pickle")


def text(embmap):
    for data, line in (
        (b"3 2\na 1 2\nb 3 4\n", 4), (b"1 2\na 1 2\nb 3 4\n", 3), (b"99999999999999 2\na 1 2\n", 1),
        (b"2 1000000000000\na 1 2\n", 1), (b"2 0\na\nb\n", 1), (b"18446744073709551616 2\na 1 2\n", 1),
        (b"2 2\na 1 2\nb 3\n", 3), (b"2 2\na 1 2\nb 3 4 5\n", 3), (b"2 2\na 1 2\nb three 4\n", 3),
        (b"2 2\na 1 2\n\nb 3 4\n", 3), (b"2 2\na 1 2\nb 3 1e99\n", 3), (b"2 2\na 1 2\nb 3 0x1p3\n", 3),
        (b"2 2\na 1 2\nb 3 \x00\n", 3), (b"2 2\na 1 2\na 3 4\n", 3), (b"2 2\na 1 2\n\xff 3 4\n", 3),
        (b"2 2\na 1 2\nb 3 4_0\n", 3), (b"2 2\na 1 2\nb 3,5 4\n", 3),
    ):
        embmap.refuses("x.vec", data, rf"line {line}\b", "--from", "word2vec")
        embmap.refuses("x.vec", None, rf"line \d", "--from", "word2vec", stdin=data)
    many = b"".join(b"w%d 1 2 3\n" % number for number in range(200000))
    embmap.refuses("x.txt", many + b"w 1 2\n" + many[:1000], r"line 200001\b")
    embmap.refuses("x.txt", many + b"w7 1 2 3\n", r"line 200001\b.*line 8\b|line 8\b.*line 200001\b")
    # Lines without an end, whether there are numbers in them or not.
    for filler in (b"a", b" ", b"1 ", b"\0", b"\xff"):
        embmap.refuses("x.txt", b"a 1 2\n" + filler * (24 << 20), PLACE, "--from", "glove")
        embmap.refuses("x.gz", gzip.compress(b"a 1 2\n" + filler * (64 << 20), 1), PLACE, "--from", "glove")
    embmap.refuses("x.txt", b"a " + b"1 " * (3 << 20) + b"\n", "line 1|columns")
    embmap.refuses("x.txt", "a 1 2\nb 3 4\n".encode("utf-16"), "UTF-16")
    for data in (b"", b"\n\n\n", b"words and no numbers\n" * 9, random.bytes(100000), b"\xef\xbb\xbf"):
        embmap.refuses("x.txt", data, "expected|empty")
        embmap.refuses("x.txt", data, "expected|empty|" + PLACE, "--from", "glove")
        embmap.refuses("x.txt", data, "expected|empty|" + PLACE, "--from", "word2vec")
    embmap.refuses("x.raw", bytes(13), PLACE, "--from", "raw", "--dim", "3", "--raw-dtype", "f32")


def binary(embmap):
    row = random.bytes(12)
    good = b"3 3\n" + b"".join(word + b" " + row for word in (b"a", b"b", b"c"))
    path = embmap.folder / "x.bin"
    path.write_bytes(good)
    assert embmap.convert(path, "--from", "word2vec-binary")[0] == 0
    for cut in (3, 4, 5, 6, 17, len(good) - 1):
        embmap.refuses("x.bin", good[:cut], PLACE, "--from", "word2vec-binary")
        embmap.refuses("x.bin", None, PLACE, "--from", "word2vec-binary", stdin=good[:cut])
    for header in (b"2 3\n", b"4 3\n", b"99999999999 3\n", b"3 4\n", b"3 99999999999\n", b"3 0\n", b"-3 3\n", b"3 3 3\n"):
        embmap.refuses("x.bin", header + good[4:], PLACE, "--from", "word2vec-binary")
        embmap.refuses("x.bin", None, PLACE, "--from", "word2vec-binary", stdin=header + good[4:])
    embmap.refuses("x.bin", b"3 3\n" + b"a" * (3 << 20), PLACE, "--from", "word2vec-binary")
    embmap.refuses("x.bin", good.replace(b"b ", b"a "), PLACE, "--from", "word2vec-binary")
    embmap.refuses("x.bin", good.replace(b"b ", b"\xe9 "), PLACE, "--from", "word2vec-binary")


def streams(embmap):
    lines = b"".join(b"w%d 1 2 3\n" % number for number in range(50000))
    for end, data in ((".gz", gzip.compress(lines)), (".zst", zstandard.ZstdCompressor(write_checksum=True).compress(lines))):
        for cut in (5, 10, 100, len(data) // 2, len(data) - 1):
            embmap.refuses(f"x.txt{end}", data[:cut], PLACE)
            embmap.refuses(f"x.txt{end}", None, PLACE, stdin=data[:cut])
        for at in (20, len(data) // 2, len(data) - 2):
            broken = bytearray(data)
            broken[at] ^= 0x55
            embmap.refuses(f"x.txt{end}", bytes(broken), PLACE)
        embmap.refuses(f"x.txt{end}", data + b"garbage", PLACE)
        embmap.refuses(f"x.txt{end}", (gzip.compress if end == ".gz" else zstandard.compress)(data), "twice")
    # A window of 2 GiB, which nobody has to set aside for a few bytes.
    window = zstandard.ZstdCompressionParameters(window_log=31, write_content_size=False)
    large = zstandard.ZstdCompressor(compression_params=window).compressobj()
    embmap.refuses("x.txt.zst", large.compress(b"a 1 2\n") + large.flush(), PLACE + "|window")
    embmap.refuses("x.gz", gzip.compress(b"a 1 2\n" + b"\n" * (100 << 20) + b"b 3 4\n", 1), PLACE)


def inflated(compression, declared, count=40_000_000):
    """A page of zeros whose header says that it unpacks to another length than it does."""
    zeros = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numpy.zeros(count, "f4")), 100)
    out = io.BytesIO()
    options = {"use_dictionary": False, "write_statistics": False, "data_page_size": 1 << 30, "max_rows_per_page": 1 << 30}
    pyarrow.parquet.write_table(pyarrow.table({"v": zeros}), out, compression=compression, **options)
    page = bytearray(out.getvalue())
    # In Thrift: the page's kind, then its bytes unpacked, a number that takes five bytes here.
    assert page[4:7] == b"\x15\0\x15" and page[10] & 0x80 and not page[11] & 0x80
    page[7:11] = bytes((declared << 1 >> shift) & 0x7F | 0x80 for shift in (0, 7, 14, 21))
    page[11] = declared << 1 >> 28
    return bytes(page)


def repeated(dim, tokens):
    """A few bytes of a dictionary that stand for rows of any length, and for tokens of any length."""
    rows = pyarrow.array([[0.5], [0.0] * dim], pyarrow.list_(pyarrow.float32()))
    if tokens is None:
        table = pyarrow.table({"v": rows})
    else:
        one = pyarrow.array(numpy.zeros(tokens, "f4"))
        text = pyarrow.DictionaryArray.from_arrays(numpy.zeros(tokens, "i4"), ["x" * 1_000_000])
        table = pyarrow.table({"v": pyarrow.FixedSizeListArray.from_arrays(one, 1), "t": text})
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, compression="zstd", write_statistics=False)
    return out.getvalue()


def tables(embmap):
    page = r"column \"v\", row group 0: the page .*\(at byte 4\)"
    for compression in ("snappy", "gzip", "lz4", "zstd"):
        embmap.refuses("x.parquet", inflated(compression, 0x7FFFFFFF), page)
        embmap.refuses("x.parquet", inflated(compression, 150_000_000), page)
    # What unpacks to 600 MB, and says that it is little.
    for compression in ("gzip", "zstd"):
        embmap.refuses("x.parquet", inflated(compression, 60_000, 150_000_000), page)
    embmap.refuses("x.parquet", repeated(200_000_000, None), r"the vector has 200000000 numbers.*\(at row 1\)")
    embmap.refuses("x.parquet", repeated(1, 300), r"the token .* is that of row 0 too")
    rows = numpy.arange(3000, dtype="f4").reshape(1000, 3)
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), 3)
    table = pyarrow.table({"v": fixed, "word": [f"w{number}" for number in range(1000)]})
    for name, write in (("x.parquet", pyarrow.parquet.write_table), ("x.feather", pyarrow.feather.write_feather)):
        path = embmap.folder / name
        write(table, path)
        good = path.read_bytes()
        path.unlink()
        for cut in (9, 100, len(good) // 2, len(good) - 9, len(good) - 1):
            embmap.refuses(name, good[:cut], "parquet|Arrow|arrow")
        for length in (0, 1, 0x7FFFFFFF, 0xFFFFFFFF) if name == "x.parquet" else ():
            footer = bytearray(good)
            struct.pack_into("<I", footer, len(footer) - 8, length)
            embmap.refuses(name, bytes(footer), r"valid parquet file: its footer: .*\(at byte")
    text = pyarrow.table({"word": ["a"], "number": [1.0]})
    pyarrow.parquet.write_table(text, embmap.folder / "y.parquet")
    embmap.refuses("y.parquet", None, "no column holds")
    embmap.refuses("y.parquet", None, "no column is named", "--column", "nothing")
    empty = pyarrow.table({"v": pyarrow.array([], pyarrow.list_(pyarrow.float32()))})
    pyarrow.parquet.write_table(empty, embmap.folder / "y.parquet")
    embmap.refuses("y.parquet", None, "without rows")


def models(embmap):
    folder = embmap.folder / "model"
    folder.mkdir()
    rows = numpy.ones((3, 4), "f4")
    for beside, says in (
        ({"mapping": numpy.array([0, 1, 3], "i8")}, "row 2"), ({"mapping": numpy.array([0, -1, 2], "i4")}, "row 1"),
        ({"weights": numpy.ones(4, "f4")}, "expected 3"), ({"weights": numpy.ones((3, 1), "f4")}, "shape"),
        ({"mapping": numpy.zeros(3, "i8"), "weights": numpy.ones(2, "f4")}, "expected 3"),
        ({"mapping": numpy.zeros(3, "f4")}, "f32"), ({"weights": numpy.ones(3, "i4")}, "i32"),
    ):
        safetensors.numpy.save_file({"embeddings": rows, **beside}, folder / "model.safetensors")
        embmap.refuses("model", None, says)
    (folder / "model.safetensors").unlink()
    embmap.refuses("model", None, "model")
    embmap.refuses("nothing-here", None, "No such file|not found|there is no")
    os.mkfifo(embmap.folder / "fifo")
    embmap.refuses("fifo", None, "regular file")
    os.symlink("loop", embmap.folder / "loop")
    embmap.refuses("loop", None, "symbolic links|loop")


def damaged(embmap, rounds):
    """Good files of every format, with some bytes changed, cut out or put in."""
    rows = random.normal(size=(200, 8)).astype("f4")
    tokens = [f"w{number}" for number in range(200)]
    lines = "".join(f"{token} {' '.join(map(str, row))}\n" for token, row in zip(tokens, rows)).encode()
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), 8)
    table = pyarrow.table({"v": fixed.cast(pyarrow.list_(pyarrow.float32())), "word": tokens})
    files = {"x.txt": lines, "x.vec": b"200 8\n" + lines, "x.txt.gz": gzip.compress(lines), "x.txt.zst": zstandard.compress(lines)}
    files["x.bin"] = b"200 8\n" + b"".join(f"{token} ".encode() + row.tobytes() for token, row in zip(tokens, rows))
    for name, write in {
        "x.npy": lambda out: numpy.save(out, rows),
        "f.npy": lambda out: numpy.save(out, numpy.asfortranarray(rows)),
        "x.npz": lambda out: numpy.savez(out, rows),
        "z.npz": lambda out: numpy.savez_compressed(out, rows),
        "x.parquet": lambda out: pyarrow.parquet.write_table(table, out, row_group_size=70),
        "z.parquet": lambda out: pyarrow.parquet.write_table(table, out, compression="gzip", data_page_version="2.0"),
        "x.feather": lambda out: pyarrow.feather.write_feather(table, out, "uncompressed"),
        "z.feather": lambda out: pyarrow.feather.write_feather(table, out, "lz4"),
        "x.safetensors": lambda out: out.write(safetensors.numpy.save({"embeddings": rows, "weights": rows[:, 0].copy()})),
    }.items():
        out = io.BytesIO()
        write(out)
        files[name] = out.getvalue()
    for name, good in files.items():
        for _ in range(rounds):
            data = bytearray(good)
            for _ in range(random.integers(1, 4)):
                # Headers lie at the ends.
                near = random.integers(0, min(len(data), 200))
                at = random.choice([near, len(data) - 1 - near, random.integers(0, len(data))])
                match random.integers(0, 4):
                    case 0:
                        data[at] ^= 1 << random.integers(0, 8)
                    case 1:
                        data[at : at + 4] = random.choice([b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f"])
                    case 2:
                        del data[at : at + random.integers(1, 9)]
                    case _:
                        data[at:at] = random.bytes(random.integers(1, 9))
            path = embmap.folder / name
            path.write_bytes(data)
            embmap.convert(path)
            path.unlink()


PARTS = (arrays, archives, pickles, text, binary, streams, tables, models)


def main(program, rounds):
    for part in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            embmap = Embmap(program, Path(folder))
            part(embmap)
            print(f"{part.__name__}: {embmap.count} conversions end as they should")
    with tempfile.TemporaryDirectory() as folder:
        embmap = Embmap(program, Path(folder))
        damaged(embmap, rounds)
        print(f"damaged: {embmap.count} conversions end by themselves")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
