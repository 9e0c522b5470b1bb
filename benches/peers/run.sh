#!/usr/bin/env bash
# Compares embmap with numpy, torch, safetensors, finalfusion, LMDB and Lance, on the same rows and
# in turn, and writes the tables and plots of docs/benchmarks.md.
#
#   benches/peers/run.sh                  everything: about half an hour on two cores
#   benches/peers/run.sh f32-3072 cold    some parts; the others stay as they were found last
#   benches/peers/run.sh --help           the parts and what can be set
#   benches/peers/run.sh python           the Python wheel beside numpy, torch and the library
#                                         without Python; what it prints goes into the document by hand
#
# Installs what it compares with into target/peers (6 GB, most of it torch's), from the package
# registries and in pinned versions, and makes tables of 35 GB there. Needs python3 and a Rust
# toolchain with a C compiler; runs on Linux on x86-64.
set -euo pipefail
cd "$(dirname "$0")"
home=$(cd ../.. && pwd)/target/peers
mkdir -p "$home"
if ! cmp -s requirements.txt "$home/installed.txt"; then
    python3 -m venv "$home/venv"
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$home/installed.txt"
fi
export CARGO_TARGET_DIR=$home/rust PYTHONDONTWRITEBYTECODE=1
cargo build --release --quiet
if [ "${1-}" = python ]; then
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check ../../python
    exec "$home/venv/bin/python" ../../python/benchmarks/gather.py \
        --rust "$CARGO_TARGET_DIR/release/libembmap_peers.so" "${@:2}"
fi
[ $# -gt 0 ] || set -- all report
exec "$home/venv/bin/python" compare.py "$@"
