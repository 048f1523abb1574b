#!/usr/bin/env bash
# Breaks the code in small ways, one at a time, and counts which of them no test notices.
# usage: scripts/mutants.sh [SHARD/SHARDS]      1 of so many parts, evenly taken: 0/20; all takes an hour
set -euo pipefail
cd "$(dirname "$0")/.."

shard=${1:-0/1}
survivors_max=10
if ! cargo mutants --version >/dev/null 2>&1; then
    echo "mutants: installing cargo-mutants"
    cargo install --quiet --locked cargo-mutants
fi
# Nobody reads the lines of a mutant.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# mutate PACKAGE FILES...: the tests of the package against each of its mutants.
mutate() {
    local package=$1 options=()
    shift
    for files in "$@"; do options+=(--file "$files"); done
    # It ends with 2 where one survives, with 3 where one runs for ever; both are counted below.
    cargo mutants --package "$package" "${options[@]}" --sharding round-robin --shard "$shard" \
        --timeout 30 --no-shuffle --output "$place/$package" || [ $? -le 3 ]
}

mutate merpati-flow crates/flow/src/outcome.rs crates/flow/src/admit.rs 'crates/flow/src/admit/*.rs'
mutate merpati-smtp 'crates/smtp/src/**/*.rs'

count() { cat "$place"/*/mutants.out/"$1.txt" | wc -l; }
caught=$(($(count caught) + $(count timeout)))
missed=$(count missed)
echo "mutants: $caught noticed, $missed not, $(count unviable) do not compile"
[ $((100 * missed)) -le $((survivors_max * (caught + missed))) ]
