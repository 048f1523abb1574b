#!/usr/bin/env bash
# Installs, upgrades, removes and purges the package in a fresh Debian, with 10,000 messages in its queue.
# usage: scripts/package-test.sh
# MERPATI_BENCH_DIR: where the Debian is made (/var/tmp).
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want debootstrap -- has debootstrap
want python3 -- has python3
install_missing package-test
if [ "$(id -u)" -ne 0 ]; then
    echo "package-test: only root can install packages" >&2
    exit 1
fi

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
cargo build --quiet --release -p merpati-rig
export MERPATI_RIG=$target/release/merpati-rig
work=$(mktemp -d "${MERPATI_BENCH_DIR:-/var/tmp}/merpati-package-XXXXXX")
trap 'rm -rf "$work"' EXIT
for version in 0.1.0+test1 0.1.0+test2; do
    scripts/package.sh --version $version --into "$work/packages"
done
timeout 290 python3 scripts/lib/package_test.py "$work" \
    "$work"/packages/merpati_0.1.0+test[12]_*.deb
