#!/usr/bin/env bash
# Whether the unit is as closed as it can be, and whether the relay does what a service manager wants of it.
# usage: scripts/systemd.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want systemd -- has systemd-analyze
want python3 -- has python3
want strace -- has strace
install_missing systemd

# 0 is closed, 10 is open; the tool counts in tenths.
threshold=25
unit=contrib/systemd/merpati.service
report=$(mktemp)
trap 'rm -f "$report"' EXIT
if ! systemd-analyze security --offline=true --no-pager --threshold=$threshold "$unit" >"$report"; then
    cat "$report"
    echo "systemd: $unit is more open than $threshold tenths" >&2
    exit 1
fi
tail -n 1 "$report"

# Mistakes in the unit itself: unknown names are only warned of. What it names is not installed here.
wrong=$(systemd-analyze verify --man=no "$unit" 2>&1 | grep "$(basename "$unit" .service)" |
    grep -v 'merpati is not executable' || true)
if [ -n "$wrong" ]; then
    echo "$wrong" >&2
    exit 1
fi

binary=${MERPATI:-}
if [ -z "$binary" ]; then
    cargo build --quiet --release -p merpati-relay --bin merpati
    binary=${CARGO_TARGET_DIR:-$PWD/target}/release/merpati
fi
exec timeout 300 python3 scripts/lib/service_manager.py "$binary"
