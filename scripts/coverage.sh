#!/usr/bin/env bash
# The lines of crates that the tests of smtp, flow and sim run; fails where smtp or flow has too few.
# usage: scripts/coverage.sh
set -euo pipefail
cd "$(dirname "$0")/.."

least=95
target=${CARGO_TARGET_DIR:-$PWD/target}
if ! cargo llvm-cov --version >/dev/null 2>&1; then
    echo "coverage: installing cargo-llvm-cov"
    cargo install --quiet --locked cargo-llvm-cov
fi
# Its own folder: what is instrumented would push everything else out.
report=$(CARGO_TARGET_DIR=$target/coverage cargo llvm-cov --quiet --summary-only \
    -p merpati-smtp -p merpati-flow -p merpati-sim 2>&1) || { echo "$report" >&2 && exit 1; }
# In the columns of the report: the file, and from the eighth on its lines and those not run.
echo "$report" | awk -v least=$least '
    $1 ~ /^(flow|smtp)\/src\// {
        split($1, path, "/")
        lines[path[1]] += $8; missed[path[1]] += $9
        printf "%-44s %5d lines, %4d not run\n", $1, $8, $9
    }
    END {
        for (crate in lines) {
            share = 100 * (1 - missed[crate] / lines[crate])
            printf "coverage: %s: %.1f %% of %d lines\n", crate, share, lines[crate]
            failed = failed || share < least
            found++
        }
        exit failed || found != 2
    }'
