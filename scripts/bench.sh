#!/usr/bin/env bash
# The figures of docs/performance.md: the journal alone, and acceptance beside Postfix in one run.
# usage: scripts/bench.sh [--smoke]      --smoke: one tiny round, which judges no speed
# MERPATI_BENCH_DIR: a folder on the disk to be measured (/var/tmp); MERPATI_CACHE: for Postfix.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in '' | --smoke) ;; *) sed -n 2,4p scripts/bench.sh >&2 && exit 2 ;; esac

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/postfix.sh
. scripts/lib/postfix.sh

want python3 -- has python3
install_missing bench
prepare_postfix bench

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-spool --example journal_bench
export MERPATI=${MERPATI:-$target/release/merpati}
export JOURNAL_BENCH=$target/release/examples/journal_bench

# The neutral generator lies beside the checkout; where it does not, Postfix's own has to do.
unset RIG
if [ -f ../shared/tools/rig/Cargo.toml ]; then
    cargo build --quiet --release --manifest-path ../shared/tools/rig/Cargo.toml --target-dir "$target/rig"
    export RIG=$target/rig/release/rig
fi
exec timeout 1200 python3 scripts/lib/bench.py "$@"
