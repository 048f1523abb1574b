# Sourced: Debian's Postfix unpacked in a cached folder, beside whatever this machine runs.
# Needs lib/need.sh; sets POSTFIX_ROOT. Nothing is installed but libraries and two system users.
# shellcheck shell=bash

postfix_links() {
    ! LD_LIBRARY_PATH="$POSTFIX_ROOT/usr/lib/postfix" \
        ldd "$POSTFIX_ROOT/usr/lib/postfix/sbin/smtpd" "$POSTFIX_ROOT/usr/lib/postfix/sbin/cleanup" |
        grep -q 'not found'
}

# prepare_postfix NAME: the folder, its libraries, and the users that Postfix insists on.
prepare_postfix() {
    local cache=${MERPATI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/merpati}/postfix
    export POSTFIX_ROOT=$cache/root
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        echo "$1: Postfix changes users: this needs root on Debian" >&2
        return 1
    fi
    if [ ! -s "$POSTFIX_ROOT/libraries" ]; then
        mkdir -p "$cache"
        rm -rf "$cache/new" && mkdir "$cache/new"
        (
            cd "$cache/new"
            apt-get -qq -o APT::Sandbox::User=root download postfix 2>/dev/null || {
                apt-get update -qq
                apt-get -qq -o APT::Sandbox::User=root download postfix
            }
            dpkg -x postfix_*.deb root
            dpkg -f postfix_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ ]*\).*/\1/p' >root/libraries
        )
        rm -rf "$POSTFIX_ROOT"
        mv "$cache/new/root" "$POSTFIX_ROOT"
        rm -rf "$cache/new"
    fi
    local libraries=()
    mapfile -t libraries <"$POSTFIX_ROOT/libraries"
    want "${libraries[@]}" -- postfix_links
    install_missing "$1"
    getent group postdrop >/dev/null || groupadd --system postdrop
    getent passwd postfix >/dev/null ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin postfix
}
