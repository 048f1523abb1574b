#!/usr/bin/env bash
# Real clients against a sandbox on free ports: what they send comes out octet for octet.
# usage: scripts/interop.sh [--smoke]      --smoke: without Postfix and nodemailer
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in '' | --smoke) ;; *) sed -n 2,3p scripts/interop.sh >&2 && exit 2 ;; esac

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/postfix.sh
. scripts/lib/postfix.sh

want python3 -- has python3
want openssl -- has openssl
want curl -- has curl
want msmtp -- has msmtp
want swaks -- has swaks
want libnet-ssleay-perl -- perl -MNet::SSLeay -e 1
install_missing interop
[ "${1:-}" = --smoke ] || prepare_postfix interop

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
export MERPATI=${MERPATI:-$target/release/merpati}
exec timeout 600 python3 scripts/lib/interop.py "$@"
