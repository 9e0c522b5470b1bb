"""Files that the package `gguf` writes, opened by embmap: tensors, tokens and rows are equal.

    python3 tests/interop/gguf_files.py target/release/embmap

Every type that the package knows is written as random blocks. The rows of those that embmap
reads are compared, bit for bit, with what the package makes of the same blocks; the others
must be listed, and refused by name. Needs the packages of requirements.txt.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize

Type = gguf.GGMLQuantizationType

ROWS, DIM = 37, 512
READ = "F32 F16 BF16 F64 I8 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
TOKENS = ["<s>", "", "Ġcat", "▁été", "日本", "a b", "\t", "cat", "cat"]


def blocks(random, type):
    """Random blocks of a type, as rows of bytes or of the type itself."""
    elements, size = GGML_QUANT_SIZES[type]
    bytes = random.integers(0, 256, (ROWS, DIM // elements * size), dtype=np.uint8)
    own = {Type.F32: np.float32, Type.F16: np.float16, Type.F64: np.float64, Type.I8: np.int8}
    return bytes.view(own[type]) if type in own else bytes


def oracle(data, type):
    """The numbers of rows, by the package or by numpy."""
    if type in (Type.F64, Type.I8):
        with np.errstate(over="ignore", invalid="ignore"):
            return data.astype(np.float32)
    with np.errstate(all="ignore"):
        return dequantize(data, type).astype(np.float32)


def write(path, tensors, split=0, alignment=None):
    """A file, or several, with these tensors and the tokens."""
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_name("né")
    writer.add_array("some.floats", [1.5, 2.5])
    writer.add_bool("a.flag", True)
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    for name, (data, type) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Embmap:
    """The command line."""

    def __init__(self, program):
        self.program = program

    def run(self, *args, **more):
        return subprocess.run([self.program, *map(str, args)], capture_output=True, **more)

    def json(self, *args):
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def rows(self, path, tensor):
        ids = " ".join(map(str, range(ROWS)))
        done = self.run(
            "gather", path, "--tensor", tensor, "--ids", "-", "-o", "-", "--raw", "--dtype", "f32",
            input=ids.encode(),
        )
        assert done.returncode == 0, done.stderr.decode()
        return np.frombuffer(done.stdout, np.float32).reshape(ROWS, DIM)


def same(ours, theirs):
    """Equal to the bit; of a NaN only that it is one."""
    nan = np.isnan(theirs)
    assert (np.isnan(ours) == nan).all()
    return (ours.view(np.uint32) == theirs.view(np.uint32))[~nan].all()


def check_rows(embmap, path, tensors):
    """Every tensor is listed as it is, and read as the package reads it, or refused."""
    listed = {tensor["name"]: tensor for tensor in embmap.json("info", "--tensors", path)}
    assert listed.keys() == tensors.keys(), listed.keys()
    read = []
    for name, (data, type) in tensors.items():
        elements, size = GGML_QUANT_SIZES[type]
        assert listed[name]["dtype"] == type.name.lower(), (listed[name], type)
        assert listed[name]["shape"] == [ROWS, DIM]
        assert listed[name]["bytes"] == ROWS * DIM // elements * size
        if type.name in READ:
            assert same(embmap.rows(path, name), oracle(data, type)), type
            [info] = embmap.json("info", path, "--tensor", name)
            assert (info["vocab"], info["dim"], info["tokens"]) == (ROWS, DIM, len(TOKENS))
            assert info["row_bytes"] == DIM // elements * size
            read.append(type.name)
        else:
            refused = embmap.run("info", path, "--tensor", name)
            assert refused.returncode == 1 and type.name.lower() in refused.stderr.decode()
    return read


def check_tokens(embmap, path):
    """The tokens are the file's own."""
    ids = [str(id) for id in range(len(TOKENS))]
    rows = embmap.json("get", path, "--tensor", "t.Q8_0", *ids)
    assert [row["token"] for row in rows] == TOKENS, rows


def main():
    embmap = Embmap(sys.argv[1])
    random = np.random.default_rng(7)
    tensors = {f"t.{type.name}": (blocks(random, type), type) for type in GGML_QUANT_SIZES}
    with tempfile.TemporaryDirectory() as folder:
        for alignment in [None, 64, 4096]:
            path = Path(folder) / f"all-{alignment}.gguf"
            write(path, tensors, alignment=alignment)
            read = check_rows(embmap, path, tensors)
            check_tokens(embmap, path)
        assert sorted(read) == sorted(READ), read
        whole = Path(folder) / "split.gguf"
        write(whole, tensors, split=7)
        parts = sorted(Path(folder).glob("split-*.gguf"))
        assert len(parts) > 3 and not whole.exists()
        for part in parts:
            check_rows(embmap, part, tensors)
            check_tokens(embmap, part)
    print(f"{len(read)} types of {len(tensors)} read, one file and {len(parts)} parts")


if __name__ == "__main__":
    main()
