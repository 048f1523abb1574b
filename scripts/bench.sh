#!/usr/bin/env bash
# The figures of docs/performance.md: end to end and acceptance beside Postfix, and the journal alone.
# usage: scripts/bench.sh [--smoke] [--rounds N] [--only end-to-end|acceptance|journal] [--rig PATH]
#   --smoke: one tiny round, which judges no speed; --rig: another load generator and sink
# MERPATI_BENCH_DIR: a folder on the disk to be measured (/var/tmp); MERPATI_CACHE: for Postfix.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/postfix.sh
. scripts/lib/postfix.sh

want python3 -- has python3
want procps -- has ps
want strace -- has strace
install_missing bench
prepare_postfix bench

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-rig
cargo build --quiet --release -p merpati-spool --example journal_bench
export MERPATI=${MERPATI:-$target/release/merpati}
export MERPATI_RIG=$target/release/merpati-rig
export JOURNAL_BENCH=$target/release/examples/journal_bench
exec timeout 1800 python3 scripts/lib/bench.py "$@"
