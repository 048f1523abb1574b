#!/usr/bin/env bash
# kill -9 of the relay and of its next hop at random, under load: nothing acknowledged is lost.
# usage: scripts/kill.sh [--smoke] [--cycles N] [--per-second N] [--held N] [--seed N]      --smoke: 3 cycles
# MERPATI_BENCH_DIR: where the spool is (/var/tmp).
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want python3 -- has python3
install_missing kill

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-rig
export MERPATI=${MERPATI:-$target/release/merpati}
export MERPATI_RIG=$target/release/merpati-rig

# A second accounting lies beside the checkout; where it does not, ours has to do.
unset RIG
if [ -f ../shared/tools/rig/Cargo.toml ]; then
    cargo build --quiet --release --manifest-path ../shared/tools/rig/Cargo.toml --target-dir "$target/rig"
    export RIG=$target/rig/release/rig
fi
exec timeout 3600 python3 scripts/lib/kill.py "$@"
