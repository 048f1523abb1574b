# Sourced: servers of Debian unpacked in cached folders, beside whatever this machine runs.
# Needs lib/need.sh. Their packages conflict when installed, so none is: each root holds one peer
# with all its libraries, is never written to, and runs as a copy that lib/jail.py makes.
# shellcheck shell=bash

# download PACKAGES...: into this folder; refreshes apt's lists where they are missing or old.
download() {
    apt-get -qq -o APT::Sandbox::User=root download "$@" 2>/dev/null && return
    apt-get update -qq && apt-get -qq -o APT::Sandbox::User=root download "$@"
}

# libraries_of DEBS...: the names of the libraries on which they depend.
libraries_of() {
    local deb
    for deb in "$@"; do
        { dpkg -f "$deb" Pre-Depends && echo , && dpkg -f "$deb" Depends; } | tr ',' '\n' |
            sed -n 's/^ *\(lib[^ :|(]*\|zlib1g\)\([ :|(].*\)\?$/\1/p'
    done | grep -v -e '^libpam-' -e '-perl$' | sort -u
}

# prepare_peer SCRIPT NAME PACKAGES...: the root folder $PEERS/NAME/root.
prepare_peer() {
    local script=$1 name=$2
    shift 2
    PEERS=${MERPATI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/merpati}
    export PEERS
    local place=$PEERS/$name
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        echo "$script: $name runs in a root folder of its own: this needs root on Debian" >&2
        return 1
    fi
    [ ! -e "$place/root/complete" ] || return 0
    echo "$script: fetching $*"
    mkdir -p "$place"
    local new
    new=$(mktemp -d "$place/new.XXXXXX")
    (
        cd "$new"
        mkdir debs root
        wanted=("$@")
        while [ ${#wanted[@]} -gt 0 ]; do
            mkdir round
            (cd round && download "${wanted[@]}")
            printf '%s\n' "${wanted[@]}" >>fetched
            mapfile -t wanted < <(libraries_of round/*.deb | grep -vxFf fetched)
            mv round/*.deb debs && rmdir round
        done
        for deb in debs/*.deb; do
            # The debs of other rounds may have the same folders.
            dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C root
        done
        # What no server reads: documents and messages of other languages. rspamd is half in Lua.
        find root/usr/share -mindepth 1 -maxdepth 1 ! -name rspamd -exec rm -rf {} +
        rm -rf root/usr/include root/usr/lib/*/gconv
        touch root/complete
    )
    rm -rf "$place/root"
    mv "$new/root" "$place/root"
    rm -rf "$new"
}

# prepare_peers SCRIPT: all of lib/peers.py but Postfix, which lib/postfix.sh prepares.
prepare_peers() {
    prepare_peer "$1" dovecot dovecot-core dovecot-imapd dovecot-lmtpd dovecot-pop3d
    prepare_peer "$1" exim exim4-daemon-light
    prepare_peer "$1" nsd nsd
    prepare_peer "$1" opensmtpd opensmtpd dash
}

# prepare_signers SCRIPT: those of lib/interop_signers.py.
prepare_signers() {
    prepare_peer "$1" opendkim opendkim
    prepare_peer "$1" rspamd rspamd
}

# prepare_dns SCRIPT: those of lib/signed_dns.py.
prepare_dns() {
    prepare_peer "$1" knot knot
    prepare_peer "$1" unbound unbound
}
