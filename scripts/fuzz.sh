#!/usr/bin/env bash
# Runs all fuzz targets for so many seconds in all, or one. The seed comes from the clock and is printed
# first; SEED=N runs the same inputs again.
# usage: scripts/fuzz.sh [SECONDS [TARGET]]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
seed=${SEED:-$(date +%s)}
# The profile is another one than that of the workspace: a directory of its own.
target=${CARGO_TARGET_DIR:-target}/fuzz

cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$target"
"$target/release/merpati-fuzz" --seconds "$seconds" --seed "$seed" ${2:+--target "$2"}
