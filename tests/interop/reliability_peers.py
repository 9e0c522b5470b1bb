#!/usr/bin/env python3
"""The faults of docs/reliability.md, done to the files of other libraries and to embmap's.

    pip install numpy safetensors lmdb finalfusion
    cargo build --release
    python3 tests/interop/reliability_peers.py target/release/embmap

Each library writes 20,000 x 64 random f32 and reads them back as its documentation says. What dies
does so in a child process. Linux; `strace` for the row of flushes.
"""

import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

EMBMAP = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "embmap"
VOCAB, DIM = 20_000, 64

SAVE = {
    "safetensors": "from safetensors.numpy import save_file; save_file({'t': a}, path)",
    "numpy": "f = open(path, 'wb'); np.save(f, a); f.close()",
    "lmdb": """
import lmdb
e = lmdb.open(path, subdir=False, map_size=1 << 26, lock=False)
with e.begin(write=True) as t:
    for i in range(len(a)):
        t.put(i.to_bytes(4, 'big'), a[i].tobytes())
e.close()
""",
    "finalfusion": """
import finalfusion
from finalfusion.storage import NdArray
from finalfusion.vocab import SimpleVocab
v = SimpleVocab([str(i) for i in range(len(a))])
finalfusion.Embeddings(NdArray(a), v, norms=None).write(path)
""",
}
LOAD = {
    "safetensors": "from safetensors.numpy import load_file; b = load_file(path)['t']",
    "numpy": "b = np.load(path)",
    "lmdb": """
import lmdb
e = lmdb.open(path, subdir=False, readonly=True, lock=False)
with e.begin() as t:
    b = np.stack([np.frombuffer(t.get(i.to_bytes(4, 'big')), 'f4') for i in range(len(a))])
""",
    "finalfusion": "import finalfusion; b = np.asarray(finalfusion.load_finalfusion(path).storage)",
}
# A row of a mapped file, after the file was cut.
CUT = {
    "safetensors": "from safetensors import safe_open; f = safe_open(path, 'numpy'); s = f.get_slice('t'); cut(); s[19990:19991].sum()",
    "numpy": "m = np.load(path, mmap_mode='r'); cut(); m[19990].sum()",
    "lmdb": """
import lmdb
e = lmdb.open(path, subdir=False, readonly=True, lock=False)
t = e.begin(buffers=True); v = t.get((19990).to_bytes(4, 'big')); cut(); bytes(v)
""",
    "finalfusion": "import finalfusion; m = finalfusion.load_finalfusion(path, mmap=True); cut(); np.asarray(m.storage)[19990].sum()",
}
START = f"""
import os, sys
import numpy as np
path, seed = sys.argv[1], int(sys.argv[2])
a = (1 + np.random.default_rng(seed).random(({VOCAB}, {DIM}))).astype('f4')
def cut(): os.truncate(path, 100_000)
"""
CHECK = "\nb = np.asarray(b).reshape(len(a), -1)\nprint('same' if a.shape == b.shape and (a == b).all() else 'wrong')\n"


def python(code, path, seed=1, **more):
    return subprocess.run([sys.executable, "-c", START + code, path, str(seed)], capture_output=True, text=True, **more)


def name_of(run):
    if run.returncode < 0:
        return signal.Signals(-run.returncode).name
    return "error" if run.returncode else run.stdout.strip() or "value"


def read(peer, path, seed=1):
    """same, wrong (silently), error, or the signal."""
    if peer != "embmap":
        return name_of(python(LOAD[peer] + CHECK, path, seed))
    run = subprocess.run([EMBMAP, "verify", "-q", path], capture_output=True)
    return "same" if run.returncode == 0 else "error"


def save(peer, path, seed=1, popen=False, before=()):
    if peer == "embmap":
        source = f"{os.path.dirname(path)}/source-{seed}.npy"
        command = [EMBMAP, "convert", "-q", "--force", source, "-o", path]
    else:
        command = [sys.executable, "-c", START + SAVE[peer], path, str(seed)]
    run = subprocess.Popen if popen else subprocess.run
    return run([*before, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def count(outcomes):
    return ", ".join(f"{outcomes.count(name)} {name}" for name in sorted(set(outcomes)))


def main():
    folder = tempfile.mkdtemp(prefix="embmap-peers-")
    os.umask(0o022)
    for seed in (1, 2):
        subprocess.run([sys.executable, "-c", START + SAVE["numpy"], f"{folder}/source-{seed}.npy", str(seed)], check=True)
    for peer in ["safetensors", "numpy", "lmdb", "finalfusion", "embmap"]:
        rng = random.Random(7)
        path = f"{folder}/table.{'emb' if peer == 'embmap' else peer}"
        start = time.time()
        if save(peer, path).returncode or read(peer, path) != "same":
            print(f"{peer}: cannot write and read back here")
            continue
        took = time.time() - start
        good = open(path, "rb").read()
        print(f"{peer}:")
        print(f"  mode under umask 022: {stat.S_IMODE(os.stat(path).st_mode):o}")

        flips = []
        for _ in range(60):
            damaged = bytearray(good)
            damaged[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            open(path, "wb").write(damaged)
            flips.append(read(peer, path))
        print(f"  60 flipped bits: {count(flips)}")
        cuts = []
        for _ in range(30):
            open(path, "wb").write(good[: rng.randrange(len(good))])
            cuts.append(read(peer, path))
        print(f"  30 files cut before opening: {count(cuts)}")

        open(path, "wb").write(good)
        if peer == "embmap":
            print("  cut while mapped, a row read: SIGBUS from a map as documented, an error from Access::Read (tests/live.rs)")
        else:
            print(f"  cut while mapped, a row read: {name_of(python(CUT[peer], path))}")

        os.remove(path)
        save(peer, path)
        begun = time.time()
        save(peer, path, 2)
        whole = time.time() - begun
        states = []
        for kill in range(40):
            seed = 1 + kill % 2
            child = save(peer, path, seed, popen=True)
            # The start of the interpreter is no part of a save: most kills come late.
            time.sleep(whole * (1 - 0.5 * rng.random() ** 2))
            child.kill()
            child.wait()
            kept = [read(peer, path, 1), read(peer, path, 2)] if peer != "embmap" else [read(peer, path)]
            states.append("whole" if "same" in kept else "torn")
            if states[-1] == "torn":
                save(peer, path, seed)
        print(f"  40 times killed while it saves over a file: {count(states)}")
        if shutil.which("strace"):
            log = f"{folder}/strace"
            save(peer, path, before=["strace", "-f", "-qq", "-o", log, "-e", "trace=fsync,fdatasync,msync"])
            flushes = sum("sync(" in line for line in open(log))
            print(f"  flushes in a save: {flushes}")
    twice = '{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = f"{folder}/twice.safetensors"
    open(path, "wb").write(len(twice).to_bytes(8, "little") + twice.encode() + bytes(4))
    print("a tensor that is there twice, safetensors:", name_of(python("from safetensors.numpy import load_file; load_file(path)", path)))
    print("the same, embmap:", "error" if subprocess.run([EMBMAP, "info", path], capture_output=True).returncode else "value")
    shutil.rmtree(folder)


main()
