#!/usr/bin/env bash
# Merpati between real clients and real servers on 127/8: what goes in comes out octet for octet.
# usage: scripts/interop.sh [--smoke]      --smoke: what is quick, with few mails of the corpora
# MERPATI_CACHE: where the servers of Debian are kept, unpacked; MERPATI_CORPORA: other corpora.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in '' | --smoke) ;; *) sed -n 2,4p scripts/interop.sh >&2 && exit 2 ;; esac

# shellcheck source=scripts/lib/need.sh
. scripts/lib/need.sh
# shellcheck source=scripts/lib/peers.sh
. scripts/lib/peers.sh
# shellcheck source=scripts/lib/postfix.sh
. scripts/lib/postfix.sh
# shellcheck source=scripts/lib/pypi.sh
. scripts/lib/pypi.sh

want python3 -- has python3
want openssl -- has openssl
want curl -- has curl
want msmtp -- has msmtp
want swaks -- has swaks
want libnet-ssleay-perl -- perl -MNet::SSLeay -e 1
if [ $# -eq 0 ]; then
    want libmail-deliverystatus-bounceparser-perl -- perl -MMail::DeliveryStatus::BounceParser -e 1
    want nodejs -- has node
    want npm -- has npm
    want python3-venv -- python3 -c 'import ensurepip, venv'
    want testssl.sh -- has testssl
fi
install_missing interop
prepare_postfix interop
prepare_peers interop
[ $# -ne 0 ] || prepare_signers interop
[ $# -ne 0 ] || prepare_dns interop
[ $# -ne 0 ] || prepare_pypi interop interop aiosmtpd authres dkimpy flufl.bounce pynacl

target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --quiet --release -p merpati-relay --bin merpati
export MERPATI=${MERPATI:-$target/release/merpati}
exec timeout 1800 python3 scripts/lib/interop.py "$@"
