#!/usr/bin/env bash
# Runs the tasks of docs/tasks.md as they stand there, each in a network and a few folders of its own, and compares
# what the commands say.
# usage: scripts/tasks.sh [--smoke]      --smoke: without Dovecot
# It needs the rights to make namespaces (root). MERPATI: the program; else it is built.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in '' | --smoke) ;; *) sed -n 2,5p "$0" >&2 && exit 2 ;; esac

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/peers.sh
. scripts/lib/peers.sh
want python3 -- has python3
want openssl -- has openssl
want curl -- has curl
want swaks -- has swaks
want iproute2 -- has ip
install_missing tasks
[ $# -ne 0 ] || prepare_peer tasks dovecot dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d

target=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${MERPATI:-}" ]; then
    cargo build --quiet --release -p merpati-relay --bin merpati
    export MERPATI=$target/release/merpati
fi
exec timeout 600 python3 scripts/lib/tasks.py "$@"
