"""The tables and plots of docs/benchmarks.md, from what the parts have found."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

Cells = list[dict]

# What PERFORMANCE's targets ask for, as a multiple of what the other takes.
TORCH, NUMPY_LONG, NUMPY_SHORT, SMALL, LIMIT, TWO_STEPS = 1.2, 1.9, 1.3, 1.0, 0.9, 1.6


def load(results: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}


def median(cells: Cells, who: str) -> float | None:
    """The median of a contender; of the limit, that of the best of its loops."""
    found = [cell["median"] for cell in cells if cell["who"].split(" #")[0] == who]
    return min(found) if found else None


def best(cells: Cells, *whos: str) -> float | None:
    found = [value for value in (median(cells, who) for who in whos) if value is not None]
    return min(found) if found else None


def spread(cells: Cells, who: str) -> float:
    """Half the distance of the quartiles, as a share of the median."""
    cell = next(cell for cell in cells if cell["who"] == who)
    return (cell["high"] - cell["low"]) / 2 / cell["median"]


def time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value, unit = (seconds * 1e6, "us") if seconds < 1e-3 else (seconds * 1e3, "ms")
    return f"{value:.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def times(other: float | None, ours: float) -> str:
    """How many times as fast ours is; a loss is bold."""
    if other is None:
        return "-"
    ratio = other / ours
    return f"{ratio:.2f}" if ratio >= 0.995 else f"**{ratio:.2f}**"


def table(heads: list[str], lines: list[list[str]]) -> str:
    if not lines:
        return "Not measured yet."
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def grouped(found: dict[str, dict], parts: list[str], *keys: str) -> list[tuple[tuple, Cells]]:
    groups: dict[tuple, Cells] = {}
    for part in parts:
        for cell in found.get(part, {}).get("cells", []):
            groups.setdefault(tuple(cell[key] for key in keys), []).append(cell)
    return list(groups.items())


def size(row_bytes: int) -> str:
    return f"{row_bytes:,} B"


def f32(found: dict[str, dict]) -> str:
    parts = [f"f32-{size}" for size in (128, 512, 3072, 8192)]
    lines = []
    for (row_bytes, rows), cells in grouped(found, parts, "row_bytes", "rows"):
        one, two = median(cells, "embmap 1t"), median(cells, "embmap 2t")
        ours = min(one, two)
        limit = best(cells, "limit 1t", "limit 2t")
        lines.append([
            size(row_bytes),
            f"{rows:,}",
            time(one),
            time(two),
            f"{spread(cells, 'embmap 2t') * 100:.0f} %",
            times(median(cells, "torch 1t"), one),
            times(best(cells, "torch 1t", "torch 2t"), ours),
            times(median(cells, "numpy take"), ours),
            f"{median(cells, 'limit 1t') / one:.2f}",
            f"{limit / ours:.2f}",
        ])
    heads = ["row", "rows", "1 thread", "2 threads", "spread", "torch, 1 thread", "torch, best", "numpy take"]
    return table([*heads, "of the limit, 1 thread", "of the limit, best"], lines)


def zipf(found: dict[str, dict]) -> str:
    lines = []
    for (row_bytes, rows), cells in grouped(found, ["zipf"], "row_bytes", "rows"):
        one, two = median(cells, "embmap 1t"), median(cells, "embmap 2t")
        ours = min(one, two)
        lines.append([
            size(row_bytes),
            f"{rows:,}",
            time(one),
            time(two),
            f"{spread(cells, 'embmap 2t') * 100:.0f} %",
            times(median(cells, "torch 1t"), one),
            times(best(cells, "torch 1t", "torch 2t"), ours),
            times(median(cells, "numpy take"), ours),
            f"{best(cells, 'limit 1t', 'limit 2t') / ours:.2f}",
        ])
    heads = ["row", "rows", "1 thread", "2 threads", "spread", "torch, 1 thread", "torch, best", "numpy take"]
    return table([*heads, "of the limit"], lines)


def converted(found: dict[str, dict]) -> str:
    parts = [f"f16-{size}" for size in (128, 512, 3072, 8192)] + ["bf16", "zipf-f16"]
    lines = []
    for (dtype, kind, row_bytes, rows), cells in grouped(found, parts, "dtype", "ids", "row_bytes", "rows"):
        one, two = median(cells, "embmap 1t"), median(cells, "embmap 2t")
        lines.append([
            dtype,
            kind,
            size(row_bytes),
            f"{rows:,}",
            time(one),
            time(two),
            f"{spread(cells, 'embmap 2t') * 100:.0f} %",
            times(median(cells, "torch 1t"), one),
            times(best(cells, "torch 1t", "torch 2t"), min(one, two)),
            times(median(cells, "numpy two steps"), min(one, two)),
        ])
    heads = ["type", "ids", "row as stored", "rows", "1 thread", "2 threads", "spread"]
    return table([*heads, "torch, 1 thread", "torch, best", "numpy"], lines)


def fresh(found: dict[str, dict]) -> str:
    whos = ["embmap, reused", "embmap, recycled", "embmap, fresh", "F.embedding 2t", "numpy [ids]", "finalfusion"]
    whos += ["LMDB", "safetensors", "Lance take"]
    columns = [(rows, cells) for (rows,), cells in grouped(found, ["fresh"], "rows")]
    names = {
        "embmap, reused": "embmap `gather_into`",
        "embmap, recycled": "embmap `gather_recycled`",
        "embmap, fresh": "embmap `gather`",
        "F.embedding 2t": "torch `F.embedding`",
        "numpy [ids]": "numpy `memmap[ids]`",
        "finalfusion": "finalfusion, mapped: `storage().embeddings`",
        "finalfusion, view": "finalfusion, mapped: its view's rows, copied into an output",
        "LMDB": "LMDB (heed), copied into an output",
        "safetensors": "safetensors `get_slice(..)[ids]`",
        "Lance take": "Lance `take`",
    }
    lines = []
    for who in names:
        line = [names[who]]
        for rows, cells in columns:
            taken, ours = median(cells, who), median(cells, "embmap, reused")
            line += ["-" if taken is None else f"{time(taken)} ({taken / ours:.2f})"]
        lines.append(line)
    return table(["way", *(f"{rows:,} rows" for rows, _ in columns)], lines)


def bags(found: dict[str, dict]) -> str:
    lines = []
    for (row_bytes, rows), cells in grouped(found, ["bags"], "row_bytes", "rows"):
        one, two = median(cells, "embmap 1t"), median(cells, "embmap 2t")
        ours = min(one, two)
        lines.append([
            size(row_bytes),
            f"{rows:,}",
            time(one),
            time(two),
            f"{spread(cells, 'embmap 2t') * 100:.0f} %",
            times(median(cells, "F.embedding_bag 1t"), one),
            times(best(cells, "F.embedding_bag 1t", "F.embedding_bag 2t"), ours),
        ])
    return table(["row", "ids", "1 thread", "2 threads", "spread", "torch, 1 thread", "torch, best"], lines)


def cold(found: dict[str, dict], part: str = "cold") -> str:
    row_bytes = 3072
    columns = [(rows, cells) for (rows,), cells in grouped(found, [part], "rows")]
    lines = []
    for who in dict.fromkeys(cell["who"] for _, cells in columns for cell in cells):
        line = [who]
        for rows, cells in columns:
            cell = next((cell for cell in cells if cell["who"] == who), None)
            if cell is None:
                line += ["-"]
                continue
            amplification = cell["device_bytes"] / (rows * row_bytes)
            line += [f"{rows / cell['median'] / 1e3:,.1f} k/s, {amplification:.1f} x"]
        lines.append(line)
    return table(["way", *(f"{rows:,} rows" for rows, _ in columns)], lines)


def partly(found: dict[str, dict]) -> str:
    return cold(found, "partly")


def targets(found: dict[str, dict]) -> str:
    """For each target the ratios that were found: how many reach it, and the least and the most."""
    uniform = grouped(found, [f"f32-{size}" for size in (128, 512, 3072, 8192)], "row_bytes", "rows")
    lines = []

    def ratios(cells: Cells, *others: str, ours: tuple[str, ...] = ("embmap 1t", "embmap 2t")) -> float:
        return best(cells, *others) / best(cells, *ours)

    def add(work: str, target: float, cells: list[tuple[str, float]]) -> None:
        if not cells:
            return
        reached = [ratio for _, ratio in cells if ratio >= target]
        least, most = min(cells, key=lambda cell: cell[1]), max(cells, key=lambda cell: cell[1])
        middle = statistics.median(ratio for _, ratio in cells)
        met = "met" if len(reached) == len(cells) else f"**not met** in {len(cells) - len(reached)} of {len(cells)}"
        range_ = f"{least[1]:.2f} ({least[0]}) to {most[1]:.2f} ({most[0]})"
        lines.append([work, f"{target:.1f} x", f"{middle:.2f}", range_, met])

    def named(row_bytes: int, rows: int) -> str:
        return f"{size(row_bytes)}, {rows:,}"

    def over(least: int, most: int, *others: str, sizes=(128, 512, 3072, 8192)) -> list[tuple[str, float]]:
        return [
            (named(*key), ratios(cells, *others))
            for key, cells in uniform
            if least <= key[1] <= most and key[0] in sizes
        ]

    torch, limit = ("torch 1t", "torch 2t"), ("limit 1t", "limit 2t")
    add("f32, from 4,096 rows, torch", TORCH, over(4096, 1 << 20, *torch))
    add("f32, from 4,096 rows of 3 KiB and more, numpy", NUMPY_LONG, over(4096, 1 << 20, "numpy take", sizes=(3072, 8192)))
    add("f32, from 4,096 rows of 128 and 512 B, numpy", NUMPY_SHORT, over(4096, 1 << 20, "numpy take", sizes=(128, 512)))
    add("f32, 64 rows, the better of torch and numpy", SMALL, over(64, 64, *torch, "numpy take"))
    add("f32, share of the limit", LIMIT, over(64, 1 << 20, *limit))
    wide = grouped(found, [f"f16-{size}" for size in (128, 512, 3072, 8192)] + ["bf16"], "dtype", "row_bytes", "rows")
    add("f16 and bf16 to f32, torch's two steps", TWO_STEPS, [
        (f"{dtype}, {named(row_bytes, rows)}", ratios(cells, *torch)) for (dtype, row_bytes, rows), cells in wide
    ])
    torch_bags = ("F.embedding_bag 1t", "F.embedding_bag 2t")
    for row_bytes, target in ((3072, 1.2), (512, 1.0)):
        add(f"bags of rows of {size(row_bytes)}, F.embedding_bag", target, [
            (f"{rows:,} ids", ratios(cells, *torch_bags))
            for (of, rows), cells in grouped(found, ["bags"], "row_bytes", "rows")
            if of == row_bytes
        ])
    fresh = grouped(found, ["fresh"], "rows")
    for way in ("fresh", "recycled"):
        name = "`gather`" if way == "fresh" else "`gather_recycled`"
        add(f"fresh outputs by {name}, F.embedding", 3.0, [
            (f"{rows:,} rows", ratios(cells, "F.embedding 2t", ours=(f"embmap, {way}",)))
            for (rows,), cells in fresh
            if rows >= 4096
        ])
    add("cold, numpy's default mapping", 50.0, [
        (f"{rows:,} rows", ratios(cells, "numpy take", ours=("embmap",)))
        for (rows,), cells in grouped(found, ["cold"], "rows")
    ])
    add("partly in memory, the better of plain mapping and direct reads", 1.0, [
        (f"{rows:,} rows", ratios(cells, "numpy take", "numpy take, MADV_RANDOM", "embmap, direct", ours=("embmap",)))
        for (rows,), cells in grouped(found, ["partly"], "rows")
    ])
    return table(["work, and against whom", "target", "median", "least and most", ""], lines)


def losses(found: dict[str, dict]) -> str:
    """Every cell in which somebody else was faster, or a target is missed."""
    lines = []

    def note(what: str, against: str, ratio: float, target: float) -> None:
        if ratio < target:
            lines.append([what, against, f"{ratio:.2f}", f"{target:.1f}"])

    for part in found:
        if part.startswith("f32-") or part == "zipf":
            for (row_bytes, kind, rows), cells in grouped(found, [part], "row_bytes", "ids", "rows"):
                what = f"f32, {size(row_bytes)}, {rows:,} rows, {kind}"
                ours = best(cells, "embmap 1t", "embmap 2t")
                torch, numpy = best(cells, "torch 1t", "torch 2t"), median(cells, "numpy take")
                if rows < 4096:
                    note(what, "the better of torch and numpy", min(torch, numpy) / ours, SMALL)
                else:
                    note(what, "torch", torch / ours, TORCH)
                    note(what, "numpy take", numpy / ours, NUMPY_LONG if row_bytes >= 3072 else NUMPY_SHORT)
                note(what, "the limit", best(cells, "limit 1t", "limit 2t") / ours, LIMIT)
        if part.startswith("f16-") or part in ("bf16", "zipf-f16"):
            for (dtype, kind, row_bytes, rows), cells in grouped(found, [part], "dtype", "ids", "row_bytes", "rows"):
                ours = best(cells, "embmap 1t", "embmap 2t")
                ratio = best(cells, "torch 1t", "torch 2t") / ours
                note(f"{dtype}, {size(row_bytes)}, {rows:,} rows, {kind}", "torch's two steps", ratio, TWO_STEPS)
        if part == "bags":
            for (row_bytes, rows), cells in grouped(found, [part], "row_bytes", "rows"):
                ours = best(cells, "embmap 1t", "embmap 2t")
                ratio = best(cells, "F.embedding_bag 1t", "F.embedding_bag 2t") / ours
                note(f"bags, {size(row_bytes)}, {rows:,} ids", "F.embedding_bag", ratio, 1.2 if row_bytes > 1024 else 1.0)
    return table(["what", "against", "times as fast", "target"], lines) if lines else "None."


def machine(found: dict[str, dict]) -> str:
    one = next(iter(found.values()))
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    of = one["machine"]
    dates = sorted({part["time"] for part in found.values()})
    return f"{of['cpu']}, {of['memory']}, Linux {of['kernel']}; {versions}; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."


def plot_warm(found: dict[str, dict], path: Path) -> None:
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), sharey=True)
    for axis, row_bytes in zip(axes, (128, 512, 3072, 8192)):
        groups = grouped(found, [f"f32-{row_bytes}"], "rows")
        batches = [rows for (rows,), _ in groups]
        for who, label in (("limit", "limit"), ("embmap", "embmap"), ("torch", "torch"), ("numpy take", "numpy take")):
            names = [who] if who == "numpy take" else [f"{who} 1t", f"{who} 2t"]
            rates = [rows * row_bytes / best(cells, *names) / 1e9 for (rows,), cells in groups]
            style = {"color": "0.6", "linestyle": "--"} if who == "limit" else {"marker": "o", "markersize": 3}
            axis.plot(batches, rates, label=label, **style)
        axis.set_xscale("log")
        axis.set_title(f"{row_bytes:,} bytes a row", fontsize=10)
        axis.set_xlabel("rows a batch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("GB/s")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    save(figure, path)


def plot_cold(found: dict[str, dict], path: Path) -> None:
    groups = grouped(found, ["cold"], "rows")
    if not groups:
        return
    figure, axes = plt.subplots(1, len(groups), figsize=(13, 3.2))
    for axis, ((rows,), cells) in zip(axes, groups):
        cells = cells[::-1]
        colours = ["C0" if cell["who"].startswith("embmap") else "0.6" for cell in cells]
        axis.barh([cell["who"] for cell in cells], [rows / cell["median"] / 1e3 for cell in cells], color=colours)
        axis.set_title(f"{rows:,} cold rows", fontsize=10)
        axis.set_xlabel("thousand rows a second")
        axis.tick_params(labelsize=8)
    save(figure, path)


def save(figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    # Trailing blanks are nobody's friend.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def write(root: Path, results: Path) -> None:
    found = load(results)
    plt.rcParams["svg.fonttype"] = "none"
    plt.rcParams["svg.hashsalt"] = "embmap"
    page = root / "docs" / "benchmarks.md"
    text = page.read_text()
    sections = {"machine": machine, "f32": f32, "zipf": zipf, "converted": converted, "fresh": fresh}
    sections |= {"bags": bags, "cold": cold, "partly": partly, "targets": targets, "losses": losses}
    for name, section in sections.items():
        begin, end = f"<!-- peers: {name} -->\n", "<!-- /peers -->"
        if begin not in text:
            raise RuntimeError(f"{page}: expected a line {begin!r}")
        head, rest = text.split(begin, 1)
        tail = rest.split(end, 1)[1]
        text = head + begin + section(found) + "\n" + end + tail
    page.write_text(text)
    plot_warm(found, root / "docs" / "plots" / "warm.svg")
    plot_cold(found, root / "docs" / "plots" / "cold.svg")
