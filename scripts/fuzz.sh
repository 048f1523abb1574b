#!/usr/bin/env bash
# Runs all fuzz targets for so many seconds in all, or one. The seed comes from the clock and is printed
# first; SEED=N runs the same inputs again.
# usage: scripts/fuzz.sh [--coverage] [SECONDS [TARGET]]
# --coverage: each target for SECONDS, built to count which lines of our crates it ran.
set -euo pipefail
cd "$(dirname "$0")/.."

with_coverage=
if [ "${1:-}" = --coverage ]; then
    with_coverage=1
    shift
fi
seconds=${1:-60}
wanted=${2:-}
seed=${SEED:-$(date +%s)}
# The profile is another one than that of the workspace: a directory of its own.
target=${CARGO_TARGET_DIR:-target}/fuzz

if [ -z "$with_coverage" ]; then
    cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$target"
    exec "$target/release/merpati-fuzz" --seconds "$seconds" --seed "$seed" ${wanted:+--target "$wanted"}
fi

tools=$(rustc --print target-libdir)/../bin
[ -x "$tools/llvm-cov" ] || rustup component add llvm-tools
# What runs while it is built is instrumented too, and would leave its counts in the tree.
LLVM_PROFILE_FILE=/dev/null RUSTFLAGS="-C instrument-coverage" \
    cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$target/coverage"
binary=$target/coverage/release/merpati-fuzz
profiles=$(mktemp -d)
trap 'rm -rf "$profiles"' EXIT
for file in fuzz/fuzz_targets/${wanted:-*}.rs; do
    name=$(basename "$file" .rs)
    LLVM_PROFILE_FILE=$profiles/$name.profraw "$binary" --seconds "$seconds" --seed "$seed" --target "$name"
    "$tools/llvm-profdata" merge -o "$profiles/$name" "$profiles/$name.profraw"
    "$tools/llvm-cov" export --summary-only --instr-profile "$profiles/$name" "$binary" \
        >"$profiles/$name.json"
    python3 scripts/lib/fuzz_lines.py "$name" "$profiles/$name.json"
done
