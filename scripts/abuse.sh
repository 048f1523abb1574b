#!/usr/bin/env bash
# 100,000 half-open, slow or abusive connections, at most 15,000 at once, while somebody else sends
# mail: his mail goes on, and memory comes back.
# usage: scripts/abuse.sh [--smoke] [--connections N] [--at-once N] [--default-waits] ...
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want python3 -- has python3
want openssl -- has openssl
install_missing abuse

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-rig
export MERPATI=${MERPATI:-$target/release/merpati}
export MERPATI_RIG=$target/release/merpati-rig
exec timeout 1800 python3 scripts/lib/abuse.py "$@"
