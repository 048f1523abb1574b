#!/usr/bin/env bash
# The cases of the conformance catalogue over raw sockets, against the release binary.
# usage: scripts/conformance.sh [--only A,B28] [--smoke] [--show] [--write]
# --smoke: without the slow cases; --show: prints what is said; --write: writes docs/conformance.md
# and docs/conformance, which otherwise must be as this run finds them.
# MERPATI: the binary, where it is built already; MERPATI_CACHE: for Knot and Unbound, which group M asks.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/peers.sh
. scripts/lib/peers.sh
want python3 -- has python3
want openssl -- has openssl
install_missing conformance
prepare_dns conformance

if [ -z "${MERPATI:-}" ]; then
    cargo build --quiet --release -p merpati-relay --bin merpati
    MERPATI=${CARGO_TARGET_DIR:-$PWD/target}/release/merpati
fi
export MERPATI
exec timeout 1800 python3 scripts/lib/conformance.py "$@"
