#!/usr/bin/env bash
# Builds the wheel and checks it: format, lints, types, and the tests, on the installed wheel.
# Needs a Rust toolchain and python3 with the packages of tests/requirements.txt; what needs torch
# is run where torch is installed.
set -euo pipefail
cd "$(dirname "$0")"
# The target directory of the library: what both need is built once.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../target}"

cargo fmt --check
cargo clippy --quiet -- -D warnings

wheels="$CARGO_TARGET_DIR/wheels"
rm -rf "$wheels"
python3 -m maturin build --release --quiet --out "$wheels"
python3 -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheels"/embmap-*.whl

python3 -m mypy
python3 -m mypy tests/uses.py
# The stubs against what was built.
python3 -m mypy.stubtest embmap._embmap

python3 -c 'import torch' 2>/dev/null || echo 'torch is not installed: what needs it is skipped'
python3 -m pytest -q -rs
