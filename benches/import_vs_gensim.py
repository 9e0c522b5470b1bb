"""Text to .emb against gensim's loading of the same file.

    python3 benches/import_vs_gensim.py target/release/embmap DIRECTORY [ROUNDS]

makes GloVe and word2vec text of 100,000 and 400,000 rows of 300 random numbers in DIRECTORY (3 GB in
all), the same each time, and times `embmap convert` on each, in turn with gensim on the smaller
ones; then opens what was written and compares rows with gensim's. Needs numpy and gensim. With
ROUNDS of 0 the files are made and nothing is measured.
"""

import gc
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

DIM, SMALL, LARGE = 300, 100_000, 400_000


def make(path):
    """Lines of normal numbers of five digits, as GloVe's; each of a million different ones."""
    random = np.random.default_rng(SMALL)
    numbers = [f"{x:.5g}" for x in random.standard_normal(1 << 20) * 0.4]
    with open(path, "w", encoding="utf-8", buffering=1 << 20) as out:
        for row in range(SMALL):
            picked = random.integers(0, len(numbers), DIM)
            out.write(f"word{row} " + " ".join(map(numbers.__getitem__, picked)) + "\n")


def repeat(small, path, rows, header):
    """The same lines as often as need be, with words of their own each time."""
    with open(path, "wb", buffering=1 << 20) as out:
        if header:
            out.write(b"%d %d\n" % (rows, DIM))
        for part in range(rows // SMALL):
            with open(small, "rb", buffering=1 << 20) as lines:
                out.writelines(b"%d%s" % (part, line) for line in lines)


# A child's peak counts from that of the process which starts it: a small one does.
START = """
import os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def convert(binary, source, out):
    """The seconds and the peak memory of a conversion, in bytes."""
    arguments = [binary, "convert", source, "-o", out, "-f", "-q"]
    told = subprocess.check_output([sys.executable, "-S", "-c", START, *arguments], text=True)
    seconds, peak = told.split()
    return float(seconds), int(peak)


def load(path, header):
    from gensim.models import KeyedVectors

    start = time.perf_counter()
    vectors = KeyedVectors.load_word2vec_format(path, no_header=not header)
    return time.perf_counter() - start, vectors


def compare(binary, table, vectors):
    words = [f"0word{row}" for row in range(0, len(vectors), 9_973)]
    arguments = [argument for word in words for argument in ("--token", word)]
    text = subprocess.check_output([binary, "get", table, "--json", *arguments], text=True)
    for word, line in zip(words, text.splitlines(), strict=True):
        row = np.array(json.loads(line)["values"], dtype=np.float32)
        assert np.array_equal(row, vectors[word]), word


def main():
    binary, directory = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    out = os.path.join(directory, "out.emb")
    files = []
    lines = os.path.join(directory, "lines.txt")
    if not os.path.exists(lines):
        make(lines)
    for name, header in (("glove.txt", False), ("word2vec.vec", True)):
        for rows in (SMALL, LARGE):
            path = os.path.join(directory, f"{rows}-{name}")
            if not os.path.exists(path):
                repeat(lines, path, rows, header)
            files.append((path, name, rows, header))
    for path, name, rows, header in files:
        ours, theirs, peaks = [], [], []
        for _ in range(rounds):
            seconds, peak = convert(binary, path, out)
            ours.append(seconds)
            peaks.append(peak)
            if rows == SMALL:
                seconds, vectors = load(path, header)
                theirs.append(seconds)
                compare(binary, out, vectors)
                del vectors
                gc.collect()
        if not rounds:
            continue
        size = os.path.getsize(path)
        median = statistics.median(ours)
        line = f"| {name}, {rows:,} x {DIM}, {size / 1e6:,.0f} MB | {median:.2f} s"
        line += f" ({min(ours):.2f} to {max(ours):.2f}), {size / median / 1e6:,.0f} MB/s"
        line += f" | {max(peaks) / 2**20:.1f} MiB |"
        if theirs:
            line += f" {statistics.median(theirs):.1f} s | {statistics.median(theirs) / median:.0f} |"
        else:
            line += " | |"
        print(line, flush=True)


main()
