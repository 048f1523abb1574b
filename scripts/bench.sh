#!/usr/bin/env bash
# The figures of docs/performance.md: beside Postfix end to end and in acceptance, signing and verifying
# beside OpenDKIM, the journal alone, a restart with a full queue, and the memory of an idle relay.
# usage: scripts/bench.sh [--smoke] [--rounds N] [--only PART] [--scenario NAME] [--queued N] [--rig PATH]
#   PART: end-to-end, acceptance, authentication, journal, restart, deep, idle; --smoke: one tiny round,
#   which judges no speed
# MERPATI_BENCH_DIR: a folder on the disk to be measured (/var/tmp); MERPATI_CACHE: for Postfix and OpenDKIM.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/peers.sh
. scripts/lib/peers.sh
# shellcheck source=scripts/lib/postfix.sh
. scripts/lib/postfix.sh

want python3 -- has python3
want procps -- has ps
want strace -- has strace
want openssl -- has openssl
install_missing bench
prepare_postfix bench
prepare_peer bench opendkim opendkim

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-rig
cargo build --quiet --release -p merpati-spool --example journal_bench
export MERPATI=${MERPATI:-$target/release/merpati}
export MERPATI_RIG=$target/release/merpati-rig
export JOURNAL_BENCH=$target/release/examples/journal_bench
exec timeout 5400 python3 scripts/lib/bench.py "$@"
