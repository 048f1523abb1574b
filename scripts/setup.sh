#!/usr/bin/env bash
# Installs what building needs, and with the argument `test` what testing needs, from Debian.
# A tool that is there already is left alone; if nothing is missing, nothing is asked of apt.
# usage: scripts/setup.sh [test | check]
set -euo pipefail

what=${1:-build}
# shellcheck source=scripts/lib/need.sh
. "$(dirname "$0")/lib/need.sh"

compiles() { echo '#include <stdio.h>' | cc -E -; }
roots() { [ -s /etc/ssl/certs/ca-certificates.crt ]; }

# aws-lc is C, and rustc links with cc.
want gcc libc6-dev -- compiles
if [ "$what" = test ]; then
    want ca-certificates -- roots
    want python3 -- has python3
    want swaks -- has swaks
    want curl -- has curl
    want libnet-ssleay-perl -- perl -MNet::SSLeay -e 1
    want xz-utils -- has xz
    want pebble -- has pebble
fi
install_missing setup

if ! has cargo; then
    echo "setup: no cargo; install Rust $(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)" \
        "with rustup or from your distribution" >&2
    exit 1
fi
if [ "$what" = check ]; then
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null || {
            echo "setup: no cargo-$tool; install it, for example: rustup component add rustfmt clippy" >&2
            exit 1
        }
    done
fi
