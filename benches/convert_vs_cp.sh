#!/usr/bin/env bash
# Times `embmap convert` of a random safetensors file of 3 GB against a plain copy that is
# flushed, in turn, and prints each pair's ratio and the converter's peak memory.
#
#   benches/convert_vs_cp.sh [FOLDER] [ROUNDS]
#
# FOLDER (a temporary one unless given) needs 10 GB of room. Build first:
# cargo build --release
set -euo pipefail
embmap=$(cd "$(dirname "$0")/.." && pwd)/target/release/embmap
folder=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
rounds=${2:-5}
trap 'rm -rf "$folder"' EXIT

vocab=1000000 dim=768
bytes=$((vocab * dim * 4))
header='{"model.embed_tokens.weight":{"dtype":"F32","shape":['$vocab,$dim'],"data_offsets":[0,'$bytes']}}'
while [ $(((8 + ${#header}) % 64)) -ne 0 ]; do header+=' '; done
source=$folder/model.safetensors
{
    # The header's length, eight bytes, little-endian; it is below 256.
    printf "$(printf '\\x%02x' ${#header})\0\0\0\0\0\0\0%s" "$header"
    head -c "$bytes" /dev/urandom
} >"$source"
sync "$source"
cat "$source" >/dev/null # the same state of the cache for both

seconds() { # COMMAND...: its wall time
    local start=$EPOCHREALTIME
    "$@" >"$folder/log" 2>&1
    local end=$EPOCHREALTIME
    awk -v a="$start" -v b="$end" 'BEGIN { printf "%.2f", b - a }'
}
copy() { cp --reflink=never "$source" "$folder/copy" && sync "$folder/copy"; }
convert() { /usr/bin/time -f 'peak %M KiB' "$embmap" convert -q "$source" -o "$folder/table.emb"; }

# The first round is not counted: it pays for whatever the disk was still busy with. After it
# the two take turns at going first.
for round in $(seq 0 "$rounds"); do
    if [ $((round % 2)) -eq 0 ]; then order='convert copy'; else order='copy convert'; fi
    for what in $order; do
        taken=$(seconds "$what")
        if [ "$what" = convert ]; then a=$taken peak=$(grep peak "$folder/log"); else b=$taken; fi
        rm "$folder"/table.emb "$folder"/copy 2>/dev/null || true
        sync
    done
    [ "$round" -eq 0 ] && continue
    awk -v a="$a" -v b="$b" -v p="$peak" -v r="$round" \
        'BEGIN { printf "round %d: convert %s s, cp + sync %s s, ratio %.2f, %s\n", r, a, b, a / b, p }'
done | tee "$folder/rounds"
grep -o 'ratio [0-9.]*' "$folder/rounds" | cut -d' ' -f2 | sort -n |
    awk '{ r[NR] = $1 } END { printf "ratio: least %s, median %s, most %s\n", r[1], r[int((NR + 1) / 2)], r[NR] }'
