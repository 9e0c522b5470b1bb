#!/usr/bin/env bash
# Fuzzes each target for a number of seconds, one after the other, in one process.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]
#
# Wants a nightly toolchain with rust-src and cargo-fuzz (cargo install cargo-fuzz). Inputs that
# fail are kept in tests/fuzz/artifacts; the corpora, in tests/fuzz/corpus, grow from run to run.
# One allocation of more than 64 MiB fails, as does an input that takes more than 10 seconds.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds for each target}
shift
targets=${*:-$(cargo +nightly fuzz list --fuzz-dir .)}
# The seeds take a moment to make: what they are built of is not worth optimising.
CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 \
    cargo +nightly run --quiet --no-default-features --example seeds -- corpus
cargo +nightly fuzz build --fuzz-dir . --dev >/dev/null 2>&1 ||
    cargo +nightly fuzz build --fuzz-dir . --dev
failed=0
for target in $targets; do
    log=$(mktemp)
    dictionary=
    if [ -f "dictionaries/$target.dict" ]; then dictionary=-dict=dictionaries/$target.dict; fi
    if cargo +nightly fuzz run --fuzz-dir . --dev "$target" -- \
        -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=64 -rss_limit_mb=1024 \
        -max_len=65536 -print_final_stats=1 -verbosity=1 $dictionary >"$log" 2>&1; then
        verdict=passed
    else
        verdict=FAILED
        failed=1
        grep -vE '^#[0-9]' "$log" | tail -40 >&2
    fi
    runs=$(grep -oE 'number_of_executed_units: *[0-9]+' "$log" | grep -oE '[0-9]+$' || echo 0)
    printf '%-16s %12s inputs  %s\n' "$target" "$runs" "$verdict"
    rm -f "$log"
done
exit $failed
