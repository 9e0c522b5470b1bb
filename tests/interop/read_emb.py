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

# code: (name, numpy type of the raw element, size)
DTYPES = {1: ("f32", "<f4", 4), 2: ("f16", "<f2", 2), 3: ("bf16", "<u2", 2), 4: ("f64", "<f8", 8)}
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
        rule(codec == 0, "codec")
        zero(page, 112, 156, "codec fields")
        self.dtype, self.numpy_type, self.size = DTYPES[dtype]
        rule(self.row_bytes == self.dim * self.size, "row_bytes")
        rule(self.row_bytes <= self.row_stride <= self.row_bytes + 65535, "row_stride")
        rule(self.row_stride % self.size == 0, "row_stride")
        rule(rows_offset == ROWS_OFFSET, "rows_offset")
        rule(rows_bytes == self.vocab * self.row_stride, "rows_bytes")
        self.checksums, block, self.section_count = struct.unpack_from("<III", page, 156)
        rule(self.checksums in (0, 1), "checksum_kind")
        rule(block == (BLOCK if self.checksums else 0), "checksum_block_bytes")
        self.seed = xxhash.xxh3_64_intdigest(self.file_id)

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
                rule(not KINDS[kind][1], "a critical section that this reader does not know")
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
        if any(kind in self.sections for kind in (1, 2, 3, 4)):
            rule(all(kind in self.sections for kind in (1, 2, 3, 4)), "token sections come together")
        rule(len(self.sections.get(5, (0, b""))[1]) <= 1 << 30, "length of the tokenizer")
        rule(len(self.sections.get(6, (0, b""))[1]) <= 1 << 20, "length of the metadata")
        rule((9 in self.sections) == bool(self.checksums), "block sums as checksum_kind says")
        if self.checksums:
            rule(list(self.sections)[-1] == 9, "block sums come last")
        zero(self.data, end, align(end), "gap before the trailer")
        rule(align(end) == len(self.data) - TRAILER, "where the trailer starts")

    def parse_trailer(self):
        trailer = self.data[-TRAILER:]
        rule(trailer[:8] == bytes(255 - byte for byte in MAGIC), "trailer magic")
        rule(struct.unpack_from("<Q", trailer, 8)[0] == len(self.data), "trailer length")
        rule(trailer[16:32] == self.file_id, "trailer file id")
        zero(trailer, 32, 64, "trailer")

    def rows(self):
        """The rows as a [vocab, dim] array; bf16 widened to float32."""
        raw = numpy.frombuffer(self.data, numpy.uint8, self.vocab * self.row_stride, ROWS_OFFSET)
        raw = raw.reshape(self.vocab, self.row_stride)
        rule(not raw[:, self.row_bytes :].any(), "row padding")
        values = numpy.ascontiguousarray(raw[:, : self.row_bytes]).view(self.numpy_type)
        if self.dtype == "bf16":
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(self.vocab, self.dim)

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

    def text(self, kind):
        return self.sections[kind][1].decode("utf-8") if kind in self.sections else None


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


def describe(table):
    """What a file holds, as JSON: values as the hexadecimal bits of their bytes."""
    rows = [
        table.data[ROWS_OFFSET + row * table.row_stride :][: table.row_bytes].hex()
        for row in range(table.vocab)
    ]
    tokens = table.tokens()
    return {
        "version": [table.major, table.minor],
        "vocab": table.vocab,
        "dim": table.dim,
        "dtype": table.dtype,
        "row_stride": table.row_stride,
        "file_id": table.file_id.hex(),
        "rows": rows,
        "tokens": tokens,
        "ids": [table.id_of(token) for token in tokens if token is not None],
        "tokenizer": table.text(5),
        "metadata": table.text(6),
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
