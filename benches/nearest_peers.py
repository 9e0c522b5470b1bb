"""Exact search over 1,000,000 x 768 f32 by embmap, numpy and faiss on the same rows.

    python3 benches/nearest_peers.py [ROWS] [ROUNDS]

Needs numpy, faiss-cpu and the Python wheel. Writes a table of random rows below target/, maps it,
and takes everybody in turn: the ten rows nearest by dot product to a vector, which is another one
in every round, and all answers are compared. numpy multiplies the mapped rows where they are, faiss
holds a copy of them.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import embmap
import faiss
import numpy

DIM, K = 768, 10


def by_numpy(rows, query):
    products = rows @ query
    best = numpy.argpartition(products, -K)[-K:]
    return best[numpy.argsort(-products[best])]


def main(count, rounds):
    random = numpy.random.default_rng(1)
    target = Path(__file__).resolve().parents[1] / "target"
    with tempfile.TemporaryDirectory(dir=target) as folder:
        path = Path(folder) / "rows.emb"
        with embmap.Writer(path, dim=DIM, dtype="f32") as writer:
            for first in range(0, count, 10_000):
                writer.write(random.standard_normal((min(10_000, count - first), DIM), dtype="f4"))
        table = embmap.open(path)
        rows = numpy.asarray(table)
        index = faiss.IndexFlatIP(DIM)
        index.add(rows)
        ways = {
            "embmap": lambda query: table.nearest(query, K, metric="dot").ids,
            "numpy, E @ q and argpartition": lambda query: by_numpy(rows, query),
            "faiss-cpu, IndexFlatIP": lambda query: index.search(query[None], K)[1][0],
        }
        times = {name: [] for name in ways}
        for turn in range(rounds + 1):
            query = random.standard_normal(DIM, dtype="f4")
            answers = []
            for name, way in ways.items():
                start = time.perf_counter()
                answers.append(list(way(query)))
                seconds = time.perf_counter() - start
                if turn > 0:
                    times[name].append(seconds)
            assert answers[0] == answers[1] == answers[2], answers
        ours = statistics.median(times["embmap"])
        print("| | ms | embmap is so many times as fast |\n|---|--:|--:|")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"| {name} | {median * 1000:.0f} | {median / ours:.2f} |")


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    main(*(numbers + [1_000_000, 7][len(numbers):]))
