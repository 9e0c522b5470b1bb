"""Vectors of texts by embmap, model2vec-rs and model2vec: sentences a second, and from the start of
a process to the first vector.

    python3 measure.py SENTENCES MODEL_DIRECTORY [ROUNDS]

SENTENCES is what `cargo build --release --manifest-path benches/sentences/Cargo.toml` makes.
MODEL_DIRECTORY holds a table and its tokenizer.json, such as all-MiniLM-L6-v2. A model of model2vec
is made of them below a temporary directory, and an .emb file of that. Everybody takes a turn in
every round, in a process of its own; medians. Needs model2vec and embmap on the path.
"""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

PAGE = Path(__file__).resolve().parents[2] / "fixtures" / "text" / "english.txt"
COUNT = 20_000

PYTHON = """
import sys, time
from model2vec import StaticModel
model = StaticModel.from_pretrained(sys.argv[1])
if sys.argv[2] == "-":
    print(model.encode("a cat sat on the mat")[0])
else:
    lines = open(sys.argv[2]).read().splitlines()
    model.encode(lines, use_multiprocessing=False)
    start = time.perf_counter()
    model.encode(lines, use_multiprocessing=False)
    print(time.perf_counter() - start)
"""


def sentences():
    """Sentences of 8 to 30 words of the page, in an order that no cache knows."""
    words = PAGE.read_text().split()
    order = random.Random(7)
    return [" ".join(order.choices(words, k=order.randint(8, 30))) for _ in range(COUNT)]


def run(command, threads):
    """What a process prints, and its seconds from start to end."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    if threads == 1:
        environment["TOKENIZERS_PARALLELISM"] = "false"
    start = time.perf_counter()
    command = [str(part) for part in command]
    output = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True).stdout
    return output.decode(), time.perf_counter() - start


def main(binary, model, rounds):
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tensors = load_file(model / "model.safetensors").values()
    (rows,) = (own for own in tensors if own.ndim == 2 and len(own) == tokenizer.get_vocab_size())
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        static = folder / "static"
        static.mkdir()
        save_file({"embeddings": rows}, static / "model.safetensors")
        (static / "tokenizer.json").write_text(tokenizer.to_str())
        (static / "config.json").write_text(json.dumps({"normalize": True}))
        emb = folder / "static.emb"
        subprocess.run(["embmap", "convert", static, "-o", emb, "-q"], check=True)
        texts = folder / "texts.txt"
        texts.write_text("\n".join(sentences()))
        python = [sys.executable, "-c", PYTHON, static]
        contenders = {
            "embmap, .emb": lambda texts, threads: [binary, "embmap", emb, texts, threads],
            "embmap, in place": lambda texts, threads: [binary, "embmap", static, texts, threads],
            "model2vec-rs": lambda texts, threads: [binary, "model2vec-rs", static, texts, threads],
            "model2vec": lambda texts, threads: [*python, texts],
        }
        speeds, starts = {}, {}
        for _ in range(rounds):
            for name, command in contenders.items():
                for threads in (1, 2):
                    seconds = float(run(command(texts, threads), threads)[0])
                    speeds.setdefault((name, threads), []).append(COUNT / seconds)
                for _ in range(3):
                    starts.setdefault(name, []).append(run(command("-", 1), 1)[1])
        print("| | sentences/s, 1 thread | 2 threads | start to first vector |")
        print("|---|--:|--:|--:|")
        for name in contenders:
            one, two = (statistics.median(speeds[name, threads]) for threads in (1, 2))
            first = statistics.median(starts[name])
            print(f"| {name} | {one:,.0f} | {two:,.0f} | {first * 1000:.1f} ms |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 5)
