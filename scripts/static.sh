#!/usr/bin/env bash
# Builds a binary that needs no other file, shows that it takes a mail in a root with nothing else in it, and makes
# the folder for contrib/container/Containerfile: target/static/image.
# usage: scripts/static.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
want gcc libc6-dev -- has cc
want binutils -- has readelf
want ca-certificates -- test -s /etc/ssl/certs/ca-certificates.crt
want python3 -- has python3
install_missing static

out=${CARGO_TARGET_DIR:-$PWD/target}/static
# With musl where Rust and a compiler for it are here; else with the static libraries of glibc. We ask DNS
# ourselves, so nothing of what glibc can only do with shared libraries is needed.
triple=$(uname -m)-unknown-linux-musl
if [ ! -d "$(rustc --print target-libdir --target "$triple")" ] || ! has musl-gcc; then
    triple=$(uname -m)-unknown-linux-gnu
fi
# Random octets come from the system call: without this, getrandom looks for glibc's function in shared libraries and
# then for /dev/urandom, and there is neither.
RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' cargo build --quiet --release -p merpati-relay --bin merpati \
    --target "$triple" --target-dir "$out"
binary=$out/$triple/release/merpati
if readelf --program-headers "$binary" | grep -q INTERP || readelf --dynamic "$binary" | grep -q NEEDED; then
    echo "static: $binary needs shared libraries" >&2
    exit 1
fi

image=$out/image
rm -rf "$image"
mkdir -p "$image/data"
install -m 0755 "$binary" "$image/merpati"
strip --strip-unneeded "$image/merpati"
install -m 0644 /etc/ssl/certs/ca-certificates.crt contrib/container/Containerfile "$image"
echo "static: $triple, $(stat -c %s "$image/merpati") octets"
exec timeout 120 python3 scripts/lib/static_test.py "$image/merpati"
