"""Quantized rows against the libraries that define them, bit for bit.

    python3 quantized.py EMBMAP

Tables are written here from docs/format.md alone, of random bytes and of all 256 codes, and
gathered by embmap; the numbers are compared with those of `gguf` (blocks), of `ml_dtypes` (8-bit
floating point and scales) and of numpy. NaNs are equal to one another, everything else in every
bit. What embmap quantizes is compared with the same libraries.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import gguf
import ml_dtypes
import numpy
import read_emb
import xxhash

QUANTS = {
    13: "Q8_0",
    14: "Q4_0",
    15: "Q4_1",
    16: "Q5_0",
    17: "Q5_1",
    18: "Q2_K",
    19: "Q3_K",
    20: "Q4_K",
    21: "Q5_K",
    22: "Q6_K",
    23: "IQ4_NL",
    24: "IQ4_XS",
}
FLOATS = {
    5: ml_dtypes.float8_e4m3fn,
    6: ml_dtypes.float8_e5m2,
    7: ml_dtypes.float8_e4m3fnuz,
    8: ml_dtypes.float8_e5m2fnuz,
}
I8, U8, U4, U6 = 9, 10, 11, 12
SCALES = {
    1: numpy.dtype("<f4"),
    2: numpy.dtype("<f2"),
    3: numpy.dtype(ml_dtypes.bfloat16),
    4: numpy.dtype(ml_dtypes.float8_e8m0fnu),
}
OUTPUTS = {"f32": numpy.dtype("<f4"), "f16": numpy.dtype("<f2"), "bf16": numpy.dtype(ml_dtypes.bfloat16)}
random = numpy.random.default_rng(20261124)
warnings.simplefilter("ignore", RuntimeWarning)


def write(path, rows, dim, dtype, codec=0, **fields):
    """An .emb file without sections from an array of bytes, [vocab, row_bytes]."""
    vocab, row_bytes = rows.shape
    body = rows.tobytes()
    trailer_at = -(-(65536 + len(body)) // 4096) * 4096
    file_bytes = trailer_at + 64
    file_id = bytes(range(16))
    page = bytearray(4096)
    page[:8] = bytes.fromhex("89454D420D0A1A0A")
    struct.pack_into("<HH", page, 8, 1, 0)
    struct.pack_into("<Q16sQQII", page, 32, file_bytes, file_id, vocab, dim, dtype, codec)
    struct.pack_into("<QQQQ", page, 80, row_bytes, row_bytes, 65536, vocab * row_bytes)
    names = ("bits", "scale_dtype", "bias_dtype", "block_length", "scales_offset", "biases_offset", "nibble_order")
    values = [fields.get(name, 0) for name in names]
    struct.pack_into("<IIIIQQI", page, 112, *values)
    if "table_scale" in fields:
        struct.pack_into("<I4s", page, 148, 1, fields["table_scale"].ljust(4, b"\0"))
    struct.pack_into("<Q", page, 4088, xxhash.xxh3_64_intdigest(bytes(page)))
    trailer = bytes(255 - byte for byte in page[:8]) + struct.pack("<Q", file_bytes) + file_id
    with open(path, "wb") as file:
        file.write(bytes(page).ljust(65536, b"\0") + body)
        file.write(bytes(trailer_at - 65536 - len(body)) + trailer.ljust(64, b"\0"))


class Embmap:
    def __init__(self, binary, folder):
        self.binary, self.folder, self.count = binary, folder, 0

    def run(self, *arguments, stdin=None, portable=False):
        environment = dict(os.environ, EMBMAP_PORTABLE="1" if portable else "0")
        done = subprocess.run(
            [str(part) for part in (self.binary, *arguments)],
            input=stdin,
            capture_output=True,
            check=False,
            env=environment,
        )
        if done.returncode != 0:
            raise SystemExit(f"{arguments}: exit {done.returncode}: {done.stderr.decode()}")
        return done.stdout

    def rows(self, table, vocab, *options, dtype="f32", portable=False):
        out = self.folder / "rows.npy"
        ids = "\n".join(map(str, range(vocab))).encode()
        self.run(
            "gather", table, "--ids", "-", "-o", out, "--force", "--dtype", dtype, *options,
            stdin=ids, portable=portable,
        )
        return numpy.load(out).view(OUTPUTS[dtype])

    def compare(self, path, expected, what):
        """Gathers all rows with every output type and both sets of kernels."""
        expected = expected.astype("<f4")
        read = read_emb.check(path).rows()
        assert read is None or same(read, expected), f"{what}: the independent reader"
        for name, output in OUTPUTS.items():
            for portable in (False, True):
                found = self.rows(path, len(expected), dtype=name, portable=portable)
                assert found.shape == expected.shape, (what, found.shape)
                different = ~equal(found, expected.astype(output))
                if different.any():
                    at = numpy.argwhere(different)[0]
                    pair = found[tuple(at)], expected[tuple(at)]
                    raise SystemExit(f"{what} as {name}, portable {portable}: {at}: {pair}")
        self.count += 1


def equal(one, other):
    """Which numbers have the same bits; NaNs are equal."""
    bits = f"<u{one.dtype.itemsize}"
    one, other = numpy.ascontiguousarray(one), numpy.ascontiguousarray(other)
    both_nan = numpy.isnan(one.astype("<f4")) & numpy.isnan(other.astype("<f4"))
    return (one.view(bits) == other.view(bits)) | both_nan


def same(one, other):
    return one.shape == other.shape and bool(equal(one.astype("<f4"), other).all())


def bytes_of(*shape):
    return random.integers(0, 256, shape, dtype=numpy.uint8)


def blocks(embmap, path):
    for code, name in QUANTS.items():
        quant = getattr(gguf.GGMLQuantizationType, name)
        elements, size = gguf.GGML_QUANT_SIZES[quant]
        for count in (1, 3, 5):
            dim = elements * count
            rows = bytes_of(400, count * size)
            write(path, rows, dim, code, 2, block_length=elements)
            embmap.compare(path, gguf.quants.dequantize(rows, quant), f"{name} x {dim}")


def unpacked(dtype, rows, dim):
    """The elements of rows as f32."""
    if dtype in FLOATS:
        return rows.view(FLOATS[dtype]).astype("<f4")
    if dtype in (I8, U8):
        return rows.view({I8: "i1", U8: "u1"}[dtype]).astype("<f4")
    bits = {U4: 4, U6: 6}[dtype]
    stream = numpy.unpackbits(rows, axis=1, bitorder="little").reshape(len(rows), dim, bits)
    return (stream * (1 << numpy.arange(bits))).sum(axis=2).astype("<f4")


def scales_like(kind, shape):
    """Random scales of a type: any bits at all, or numbers of a usual size."""
    if random.random() < 0.3:
        return bytes_of(shape[0], shape[1] * SCALES[kind].itemsize)
    usual = random.normal(0, 0.1, shape).astype("<f4")
    usual = abs(usual) if kind == 4 else usual
    return usual.astype(SCALES[kind]).view(numpy.uint8)


def scaled(embmap, path):
    all_codes = numpy.arange(256, dtype=numpy.uint8)
    for dtype in (*FLOATS, I8, U8, U4, U6):
        bits = {U4: 4, U6: 6}.get(dtype, 8)
        packed = dict(bits=bits, nibble_order=int(bits < 8))
        rows = numpy.stack([random.permutation(all_codes) for _ in range(40)])[:, : 192 if bits == 6 else 256]
        dim = rows.shape[1] * 8 // bits
        write(path, rows, dim, dtype)
        embmap.compare(path, unpacked(dtype, rows, dim), f"dtype {dtype}, no scale")
        for kind, scale_type in SCALES.items():
            for scale in (0.0123, 1.5):
                scale = numpy.array([scale], "<f4").astype(scale_type)
                where = dict(scale_dtype=kind, block_length=dim, table_scale=scale.tobytes())
                write(path, rows, dim, dtype, 1, **packed, **where)
                expected = unpacked(dtype, rows, dim) * scale.astype("<f4")
                embmap.compare(path, expected, f"dtype {dtype}, table scale")
        # One scale a row or for each block, with a bias or without.
        for vocab, dim, block in (
            (300, 48, 48), (200, 36, 36), (100, 512, 512), (150, 256, 32), (60, 640, 64), (50, 384, 128),
            (40, 1200, 12), (30, 1024, 512), (20, 48, 4),
        ):
            for kind, scale_type in SCALES.items():
                for bias_kind in (0, 1, 2, 3):
                    if bias_kind and random.random() < 0.5:
                        continue
                    values = bytes_of(vocab, dim * bits // 8)
                    scales = scales_like(kind, (vocab, dim // block))
                    parts = [values, scales]
                    numbers = unpacked(dtype, values, dim).reshape(vocab, dim // block, block)
                    factor = numpy.ascontiguousarray(scales).view(scale_type).astype("<f4")
                    numbers = numbers * factor[:, :, None]
                    where = dict(scale_dtype=kind, block_length=block, scales_offset=values.shape[1])
                    if bias_kind:
                        biases = scales_like(bias_kind, (vocab, dim // block))
                        parts.append(biases)
                        term = numpy.ascontiguousarray(biases).view(SCALES[bias_kind]).astype("<f4")
                        numbers = numbers + term[:, :, None]
                        where.update(bias_dtype=bias_kind, biases_offset=values.shape[1] + scales.shape[1])
                    write(path, numpy.concatenate(parts, axis=1), dim, dtype, 1, **packed, **where)
                    what = f"dtype {dtype} x {dim}, blocks of {block}, scale {kind}, bias {bias_kind}"
                    embmap.compare(path, numbers.reshape(vocab, dim), what)


def quantizing(embmap, path):
    """What embmap makes of numbers, byte by byte, and what it says that this costs."""
    vocab, dim = 400, 160
    numbers = random.normal(0, 0.05, (vocab, dim)).astype("<f4")
    numbers[0], numbers[1, 3], numbers[2] = 0, 400, numbers[2] * 1e-41
    out = path.with_name("quantized.emb")
    for stored, code in (("<f4", 1), ("<f2", 2), (ml_dtypes.bfloat16, 3)):
        given = numbers.astype(stored)
        write(path, given.view(numpy.uint8).reshape(vocab, -1), dim, code)
        given = given.astype("<f4")
        largest = abs(given).max(axis=1, keepdims=True)
        with numpy.errstate(all="ignore"):
            scale8, scale_float = largest / numpy.float32(127), largest / numpy.float32(448)
            bytes8 = numpy.nan_to_num(numpy.rint(given / scale8), nan=0, posinf=0, neginf=0)
            floats = numpy.where(scale_float == 0, 0, given / scale_float).clip(-448, 448)
        expected = {
            "i8": (bytes8.clip(-127, 127).astype("i1"), scale8),
            "f8_e4m3": (floats.astype(ml_dtypes.float8_e4m3fn), scale_float),
            "q8_0": (gguf.quants.quantize(given, gguf.GGMLQuantizationType.Q8_0),),
        }
        for dtype, parts in expected.items():
            rows = numpy.concatenate([part.view(numpy.uint8).reshape(vocab, -1) for part in parts], axis=1)
            told = embmap.run("convert", path, "-o", out, "--dtype", dtype, "--force", "--json")
            told = json.loads(told)["quantization"]
            file = out.read_bytes()
            found = numpy.frombuffer(file, numpy.uint8, rows.size, 65536).reshape(rows.shape)
            different = numpy.argwhere(found != rows)
            assert not different.size, (dtype, stored, different[0], found[tuple(different[0])])
            read = embmap.rows(out, vocab).astype("<f8")
            wide = given.astype("<f8")
            dot = (wide * read).sum(axis=1)
            norms = numpy.sqrt((wide**2).sum(axis=1) * (read**2).sum(axis=1))
            zero = (wide == 0).all(axis=1) & (read == 0).all(axis=1)
            cosine = numpy.where(zero, 1, numpy.divide(dot, norms, out=numpy.zeros(vocab), where=norms > 0))
            expected_cost = {
                "max_error": abs(wide - read).max(),
                "rms_error": numpy.sqrt(((wide - read) ** 2).mean()),
                "mean_cosine": cosine.mean(),
                "min_cosine": cosine.min(),
            }
            for name, value in expected_cost.items():
                assert abs(told[name] - value) < 1e-9, (dtype, name, told[name], value)
            embmap.count += 1


def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        embmap = Embmap(binary, Path(folder))
        path = Path(folder) / "table.emb"
        blocks(embmap, path)
        print(f"blocks: {embmap.count} tables as gguf decodes them")
        embmap.count = 0
        scaled(embmap, path)
        print(f"scales: {embmap.count} tables as ml_dtypes and numpy decode them")
        embmap.count = 0
        quantizing(embmap, path)
        print(f"quantizing: {embmap.count} tables as gguf, ml_dtypes and numpy make them")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
