"""A reader of .emb files, written from docs/format.md alone.

It needs numpy and xxhash, and shares no code with embmap. `check(path)` reads every byte
of a file and applies every rule of the specification; `read(path)` gives the rows, the
tokens and the texts. Run as a program it checks the files it is given:

    python3 read_emb.py FILE...            exits 1 on the first broken rule
    python3 read_emb.py --json FILE        prints what the file holds, for comparison
"""

import json
import struct
import sys

import numpy
import xxhash

MAGIC = bytes.fromhex("89454D420D0A1A0A")
PAGE = 4096
ROWS_OFFSET = 65536
BLOCK = 65536
TRAILER = 64
LONGEST_TOKEN = 1048576

# code: (name, elements that are stored together, their bytes)
DTYPES = {
    1: ("f32", 1, 4),
    2: ("f16", 1, 2),
    3: ("bf16", 1, 2),
    4: ("f64", 1, 8),
    5: ("f8_e4m3", 1, 1),
    6: ("f8_e5m2", 1, 1),
    7: ("f8_e4m3fnuz", 1, 1),
    8: ("f8_e5m2fnuz", 1, 1),
    9: ("i8", 1, 1),
    10: ("u8", 1, 1),
    11: ("u4", 2, 1),
    12: ("u6", 4, 3),
    13: ("q8_0", 32, 34),
    14: ("q4_0", 32, 18),
    15: ("q4_1", 32, 20),
    16: ("q5_0", 32, 22),
    17: ("q5_1", 32, 24),
    18: ("q2_k", 256, 84),
    19: ("q3_k", 256, 110),
    20: ("q4_k", 256, 144),
    21: ("q5_k", 256, 176),
    22: ("q6_k", 256, 210),
    23: ("iq4_nl", 32, 18),
    24: ("iq4_xs", 256, 136),
}
# code: (name, bytes)
SCALES = {1: ("f32", 4), 2: ("f16", 2), 3: ("bf16", 2), 4: ("f8_e8m0", 1)}
CODECS = {0: "plain", 1: "scaled", 2: "blocks"}
# code: (bits of exponent, bits of mantissa, bias, what the codes at the ends stand for)
FLOAT8 = {5: (4, 3, 7, "finite"), 6: (5, 2, 15, "ieee"), 7: (4, 3, 8, "fnuz"), 8: (5, 2, 16, "fnuz")}
KINDS = {
    1: ("token_offsets", False),
    2: ("token_bytes", False),
    3: ("token_presence", False),
    4: ("token_index", False),
    5: ("tokenizer", False),
    6: ("metadata", False),
    7: ("row_order", True),
    8: ("norms", False),
    9: ("block_sums", False),
}


class Broken(Exception):
    """A rule of the specification that a file breaks."""


def rule(holds, message):
    if not holds:
        raise Broken(message)


def align(offset):
    return -(-offset // PAGE) * PAGE


def zero(data, start, end, what):
    rule(not any(data[start:end]), f"{what}: bytes {start} to {end} are not all zero")


class Table:
    """What a file holds."""

    def __init__(self, data):
        self.data = data
        self.parse_header()
        self.parse_sections()
        self.parse_trailer()

    def parse_header(self):
        data = self.data
        rule(data[:8] == MAGIC, "magic")
        rule(len(data) >= ROWS_OFFSET + TRAILER, "shortest file")
        page = data[:PAGE]
        (self.major, self.minor) = struct.unpack_from("<HH", page, 8)
        rule(self.major == 1, "version_major")
        (header_sum,) = struct.unpack_from("<Q", page, 4088)
        rule(xxhash.xxh3_64_intdigest(page[:4088] + bytes(8)) == header_sum, "header_sum")
        for start, length in ((12, 4), (168, 88), (2304, 1784)):
            zero(page, start, start + length, "reserved")
        (incompatible,) = struct.unpack_from("<Q", page, 16)
        rule(incompatible == 0, "incompatible_features")
        (file_bytes,) = struct.unpack_from("<Q", page, 32)
        rule(file_bytes == len(data), "file_bytes")
        self.file_id = bytes(page[40:56])
        self.vocab, self.dim, dtype, codec = struct.unpack_from("<QQII", page, 56)
        self.row_bytes, self.row_stride, rows_offset, rows_bytes = struct.unpack_from("<QQQQ", page, 80)
        rule(1 <= self.dim <= 16777216, "dim")
        rule(dtype in DTYPES, "dtype")
        rule(codec in CODECS, "codec")
        self.dtype, self.together, self.size = DTYPES[dtype]
        self.dtype_code, self.codec = dtype, CODECS[codec]
        self.parse_codec(page)
        rule(self.row_bytes <= self.row_stride <= self.row_bytes + 65535, "row_stride")
        multiple = self.size if codec == 0 and self.together == 1 else 1
        rule(self.row_stride % multiple == 0, "row_stride")
        rule(rows_offset == ROWS_OFFSET, "rows_offset")
        rule(rows_bytes == self.vocab * self.row_stride, "rows_bytes")
        self.checksums, block, self.section_count = struct.unpack_from("<III", page, 156)
        rule(self.checksums in (0, 1), "checksum_kind")
        rule(block == (BLOCK if self.checksums else 0), "checksum_block_bytes")
        self.seed = xxhash.xxh3_64_intdigest(self.file_id)

    def parse_codec(self, page):
        """The codec fields, and the bytes that the parts of a row take."""
        rule(self.dim % self.together == 0, "rows are whole blocks")
        values = self.dim // self.together * self.size
        bits, scale, bias, block = struct.unpack_from("<IIII", page, 112)
        scales_offset, biases_offset, order, present = struct.unpack_from("<QQII", page, 128)
        self.block, self.scale_type, self.bias_type, self.table_scale = block, scale, bias, None
        blocks_dtype = self.dtype_code >= 13
        if self.codec != "scaled":
            rule(blocks_dtype == (self.codec == "blocks"), "codec and dtype")
            rule(block == (self.together if blocks_dtype else 0), "block_length")
            zero(page, 112, 124, "bits, scale_dtype, bias_dtype")
            zero(page, 128, 156, "codec fields")
            self.parts = [values, 0, 0]
        else:
            rule(5 <= self.dtype_code <= 12, "codec and dtype")
            rule(scale in SCALES, "scale_dtype")
            rule(bias in (0, 1, 2, 3), "bias_dtype")
            rule(block > 0 and self.dim % block == 0 and block % self.together == 0, "block_length")
            rule(bits == 8 * self.size // self.together, "bits")
            rule(order == (1 if self.together > 1 else 0), "nibble_order")
            rule(present in (0, 1), "table_scale_present")
            count, size = self.dim // block, SCALES[scale][1]
            if present:
                rule(block == self.dim and bias == 0, "table_scale_present")
                zero(page, 152 + size, 156, "table_scale")
                self.table_scale = page[152 : 152 + size]
                self.parts = [values, 0, 0]
            else:
                zero(page, 152, 156, "table_scale")
                self.parts = [values, count * size, count * SCALES[bias][1] if bias else 0]
            rule(scales_offset == (0 if present else values), "scales_offset")
            rule(biases_offset == (values + self.parts[1] if bias else 0), "biases_offset")
        rule(self.row_bytes == sum(self.parts), "row_bytes")

    def parse_sections(self):
        rule(self.section_count <= 64, "section_count")
        zero(self.data, 256 + 32 * self.section_count, 2304, "unused directory entries")
        self.sections = {}
        zero(self.data, PAGE, ROWS_OFFSET, "gap before the rows")
        end = ROWS_OFFSET + self.vocab * self.row_stride
        for index in range(self.section_count):
            kind, flags, offset, length, sum_ = struct.unpack_from("<IIQQQ", self.data, 256 + 32 * index)
            rule(kind != 0, "section kind")
            if kind in KINDS:
                rule(flags == int(KINDS[kind][1]), "section flags")
            else:
                rule(flags & 1 == 0, "an unknown critical section")
                rule(flags == 0, "section flags")
            rule(kind not in self.sections, "a second section of one kind")
            rule(offset == align(end), "section offset")
            zero(self.data, end, offset, "gap between parts")
            end = offset + length
            rule(end <= len(self.data), "section length")
            content = self.data[offset:end]
            rule(xxhash.xxh3_64_intdigest(content, seed=self.seed) == sum_, f"sum of section {index}")
            self.sections[kind] = (offset, content)
        self.parse_order()
        if any(kind in self.sections for kind in (1, 2, 3, 4)):
            rule(all(kind in self.sections for kind in (1, 2, 3, 4)), "token sections come together")
        rule(len(self.sections.get(5, (0, b""))[1]) <= 1 << 30, "length of the tokenizer")
        rule(len(self.sections.get(6, (0, b""))[1]) <= 1 << 20, "length of the metadata")
        rule((9 in self.sections) == bool(self.checksums), "block sums as checksum_kind says")
        if self.checksums:
            rule(list(self.sections)[-1] == 9, "block sums come last")
        zero(self.data, end, align(end), "gap before the trailer")
        rule(align(end) == len(self.data) - TRAILER, "where the trailer starts")

    def parse_order(self):
        """The place of each row, in the order of their ids."""
        self.places = numpy.arange(self.vocab)
        if 7 not in self.sections:
            return
        section = self.sections[7][1]
        groups, width = -(-self.vocab // 64), 4 if self.vocab <= 1 << 32 else 8
        placed, rest = divmod(len(section) - 16 * groups, width)
        rule(rest == 0 and 1 <= placed <= self.vocab, "length of row_order")
        words = numpy.frombuffer(section, numpy.uint8, 16 * groups).reshape(groups, 16)
        before = numpy.ascontiguousarray(words[:, :8]).view("<u8").ravel()
        bits = numpy.unpackbits(words[:, 8:].ravel(), bitorder="little").astype(bool)
        rule(not bits[self.vocab :].any(), "bits of row_order beyond the rows")
        is_placed = bits[: self.vocab]
        ranks = numpy.cumsum(is_placed) - is_placed
        rule((before == ranks[::64]).all() and is_placed.sum() == placed, "counts of row_order")
        places = numpy.frombuffer(section, f"<u{width}", offset=16 * groups).astype(numpy.int64)
        rule((numpy.sort(places) == numpy.arange(placed)).all(), "places of row_order")
        self.places[is_placed] = places
        self.places[~is_placed] += placed - ranks[~is_placed]

    def parse_trailer(self):
        trailer = self.data[-TRAILER:]
        rule(trailer[:8] == bytes(255 - byte for byte in MAGIC), "trailer magic")
        rule(struct.unpack_from("<Q", trailer, 8)[0] == len(self.data), "trailer length")
        rule(trailer[16:32] == self.file_id, "trailer file id")
        zero(trailer, 32, 64, "trailer")

    def rows(self):
        """The rows as a [vocab, dim] array; float32 for all but float16 and float64.

        None for the blocks of GGUF that this reader does not know.
        """
        raw = numpy.frombuffer(self.data, numpy.uint8, self.vocab * self.row_stride, ROWS_OFFSET)
        raw = raw.reshape(self.vocab, self.row_stride)[self.places]
        rule(not raw[:, self.row_bytes :].any(), "row padding")
        values, scales, biases = numpy.split(raw[:, : self.row_bytes], numpy.cumsum(self.parts[:2]), axis=1)
        if self.codec == "blocks":
            return decode_blocks(self.dtype, values, self.vocab, self.dim)
        elements = decode_elements(self.dtype_code, numpy.ascontiguousarray(values), self.vocab, self.dim)
        if self.codec == "plain":
            return elements
        if self.table_scale is not None:
            return elements * decode_scales(self.scale_type, self.table_scale)
        groups = elements.reshape(self.vocab, self.dim // self.block, self.block)
        with numpy.errstate(over="ignore", invalid="ignore"):
            groups = groups * decode_scales(self.scale_type, scales).reshape(self.vocab, -1, 1)
        if self.bias_type:
            groups = groups + decode_scales(self.bias_type, biases).reshape(self.vocab, -1, 1)
        return groups.reshape(self.vocab, self.dim)

    def tokens(self):
        """A list with the token of each row, None where it is absent."""
        if 1 not in self.sections:
            return []
        rule(len(self.sections[1][1]) % 8 == 0 and self.sections[1][1], "length of token_offsets")
        offsets = [int(word) for word in numpy.frombuffer(self.sections[1][1], "<u8")]
        data, presence = self.sections[2][1], self.sections[3][1]
        count = len(offsets) - 1
        rule(len(presence) == -(-count // 8), "length of token_presence")
        rule(offsets[0] == 0 and offsets[-1] == len(data), "first and last token offset")
        tokens = []
        for token_id in range(count):
            start, end = offsets[token_id], offsets[token_id + 1]
            rule(0 <= end - start <= LONGEST_TOKEN, "token offsets ascend")
            present = presence[token_id // 8] >> (token_id % 8) & 1
            rule(present or start == end, "an absent token has no bytes")
            tokens.append(data[start:end].decode("utf-8") if present else None)
        if count % 8:
            rule(presence[-1] >> (count % 8) == 0, "presence bits beyond the last token")
        return tokens

    def index_entries(self):
        """(bucket bits, directory, [(fingerprint, id)]) of the token index."""
        index = self.sections[4][1]
        bits, id_bytes, count = struct.unpack_from("<IIQ", index, 0)
        rule(bits <= 40 and id_bytes in (4, 8), "token index header")
        zero(index, 16, 32, "token index header")
        start = 32 + 8 * (2**bits + 1)
        rule(len(index) == start + (2 + id_bytes) * count, "length of the token index")
        directory = [int(word) for word in numpy.frombuffer(index[32:start], "<u8")]
        entries = []
        for at in range(start, len(index), 2 + id_bytes):
            entry = index[at : at + 2 + id_bytes]
            entries.append((int.from_bytes(entry[:2], "little"), int.from_bytes(entry[2:], "little")))
        return bits, directory, entries

    def id_of(self, token):
        """The lowest row of a token, through the index."""
        bits, directory, entries = self.index_entries()
        hashed = xxhash.xxh3_64_intdigest(token.encode())
        bucket = hashed >> (64 - bits)
        tokens = self.tokens()
        for fingerprint, token_id in entries[directory[bucket] : directory[bucket + 1]]:
            if fingerprint == hashed & 0xFFFF and tokens[token_id] == token:
                return token_id
        return None

    def norms(self):
        """The recorded norm of each row, in the order of their ids, or None."""
        if 8 not in self.sections:
            return None
        rule(len(self.sections[8][1]) == 4 * self.vocab, "length of norms")
        return numpy.frombuffer(self.sections[8][1], "<f4")[self.places]

    def text(self, kind):
        return self.sections[kind][1].decode("utf-8") if kind in self.sections else None


def decode_scales(kind, data):
    raw = numpy.frombuffer(numpy.ascontiguousarray(data), numpy.uint8) if isinstance(data, bytes) else data
    raw = numpy.ascontiguousarray(raw)
    if kind == 1:
        return raw.view("<f4")
    if kind == 2:
        return raw.view("<f2").astype("<f4")
    if kind == 3:
        return (raw.view("<u2").astype("<u4") << 16).view("<f4")
    powers = numpy.ldexp(numpy.float32(1), numpy.where(raw == 255, 0, raw.astype("<i4") - 127))
    return numpy.where(raw == 255, numpy.float32("nan"), powers).astype("<f4")


def decode_elements(dtype, raw, vocab, dim):
    """Elements as float32; float16 and float64 as they are."""
    if dtype in (1, 2, 4):
        return raw.view({1: "<f4", 2: "<f2", 4: "<f8"}[dtype]).reshape(vocab, dim)
    if dtype == 3:
        return (raw.view("<u2").astype("<u4") << 16).view("<f4").reshape(vocab, dim)
    if dtype in FLOAT8:
        return numpy.array([float8(code, *FLOAT8[dtype]) for code in range(256)], "<f4")[raw]
    if dtype in (9, 10):
        return raw.view({9: "i1", 10: "u1"}[dtype]).astype("<f4")
    bits = {11: 4, 12: 6}[dtype]
    stream = numpy.unpackbits(raw, axis=1, bitorder="little").reshape(vocab, dim, bits)
    return (stream * (1 << numpy.arange(bits))).sum(axis=2).astype("<f4")


def float8(code, exponent_bits, mantissa_bits, bias, kind):
    sign = -1.0 if code & 0x80 else 1.0
    exponent, mantissa = (code & 0x7F) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    if kind == "fnuz" and code == 0x80 or kind == "finite" and code & 0x7F == 0x7F:
        return float("nan")
    if kind == "ieee" and exponent == (1 << exponent_bits) - 1:
        return float("nan") if mantissa else sign * float("inf")
    if exponent == 0:
        return sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
    return sign * (1 + mantissa / 2**mantissa_bits) * 2.0 ** (exponent - bias)


def decode_blocks(dtype, raw, vocab, dim):
    if dtype not in ("q8_0", "q4_0"):
        return None
    blocks = raw.reshape(vocab * dim // 32, -1)
    scales = numpy.ascontiguousarray(blocks[:, :2]).view("<f2").astype("<f4")
    if dtype == "q8_0":
        elements = numpy.ascontiguousarray(blocks[:, 2:]).view("i1").astype("<f4")
    else:
        nibbles = numpy.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
        elements = nibbles.astype("<f4") - 8
    return (elements * scales).reshape(vocab, dim)


def norms_of(rows):
    """The norm of each row: squares in float64, in 16 lanes, then halves."""
    vocab, dim = rows.shape
    with numpy.errstate(over="ignore", invalid="ignore"):
        squares = rows.astype("<f4").astype("<f8") ** 2
        lanes = numpy.zeros((vocab, 16))
        for start in range(0, dim, 16):
            lanes[:, : min(16, dim - start)] += squares[:, start : start + 16]
        for half in (8, 4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
        return numpy.sqrt(lanes[:, 0]).astype("<f4")


def check_norms(table):
    recorded, rows = table.norms(), table.rows()
    if recorded is not None and rows is not None:
        rule(numpy.array_equal(recorded, norms_of(rows), equal_nan=True), "norms of the rows")


def check_index(table):
    tokens = table.tokens()
    bits, directory, entries = table.index_entries()
    rule(directory[0] == 0 and directory[-1] == len(entries), "token index directory")
    rule(directory == sorted(directory), "token index directory ascends")
    rule(all(b - a <= 65536 for a, b in zip(directory, directory[1:])), "longest bucket")
    lowest = {}
    for token_id, token in enumerate(tokens):
        if token is not None:
            lowest.setdefault(token, token_id)
    expected = sorted((xxhash.xxh3_64_intdigest(t.encode()), token_id) for t, token_id in lowest.items())
    rule(entries == [(h & 0xFFFF, token_id) for h, token_id in expected], "token index entries")
    for place, (hashed, _) in enumerate(expected):
        bucket = hashed >> (64 - bits)
        rule(directory[bucket] <= place < directory[bucket + 1], "token index buckets")


def check(path):
    """Applies every rule to every byte of a file and gives its table."""
    table = read(path)
    table.rows()
    check_norms(table)
    table.tokens()
    if 4 in table.sections:
        check_index(table)
    if 6 in table.sections:
        rule(isinstance(json.loads(table.text(6)), dict), "metadata is a JSON object")
    if 5 in table.sections:
        table.text(5)
    if table.checksums:
        offset, content = table.sections[9]
        sums = [int(word) for word in numpy.frombuffer(content, "<u8")]
        covered = table.data[ROWS_OFFSET:offset]
        blocks = [covered[at : at + BLOCK] for at in range(0, len(covered), BLOCK)]
        rule(len(sums) == len(blocks), "length of block_sums")
        for index, block in enumerate(blocks):
            seed = (table.seed + index) % 2**64
            rule(xxhash.xxh3_64_intdigest(block, seed=seed) == sums[index], f"sum of block {index}")
    return table


def read(path):
    with open(path, "rb") as file:
        return Table(file.read())


def bits_of(rows):
    """Every element as the bits of a float32, every NaN as one."""
    with numpy.errstate(over="ignore", under="ignore"):
        numbers = numpy.ascontiguousarray(rows, "<f4").ravel()
    return numpy.where(numpy.isnan(numbers), 0x7FC00000, numbers.view("<u4")).tolist()


def describe(table):
    """What a file holds, as JSON: values as the hexadecimal bits of their bytes."""
    rows = [
        table.data[ROWS_OFFSET + int(place) * table.row_stride :][: table.row_bytes].hex()
        for place in table.places
    ]
    tokens, norms, numbers = table.tokens(), table.norms(), table.rows()
    return {
        "version": [table.major, table.minor],
        "vocab": table.vocab,
        "dim": table.dim,
        "dtype": table.dtype,
        "codec": table.codec,
        "row_stride": table.row_stride,
        "file_id": table.file_id.hex(),
        "rows": rows,
        "numbers": None if numbers is None else bits_of(numbers),
        "tokens": tokens,
        "ids": [table.id_of(token) for token in tokens if token is not None],
        "tokenizer": table.text(5),
        "metadata": table.text(6),
        "norms": None if norms is None else [float.hex(float(norm)) for norm in norms],
    }


def main(arguments):
    as_json = arguments[:1] == ["--json"]
    for path in arguments[1:] if as_json else arguments:
        try:
            table = check(path)
        except Broken as broken:
            print(f"{path}: broken rule: {broken}", file=sys.stderr)
            return 1
        if as_json:
            json.dump(describe(table), sys.stdout)
        else:
            print(f"{path}: {table.vocab} x {table.dim} {table.dtype}, {len(table.tokens())} tokens, sound")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
