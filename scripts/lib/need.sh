# Sourced: packages of Debian that a script needs, in the manner of scripts/setup.sh.
# shellcheck shell=bash

missing=()
has() { command -v "$1" >/dev/null; }

# want PACKAGES... -- COMMAND...: the packages are missing unless the command succeeds.
want() {
    local packages=()
    while [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    shift
    "$@" >/dev/null 2>&1 || missing+=("${packages[@]}")
}

# install_missing NAME: asks apt for what is missing, or says what to install.
install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! has apt-get; then
        echo "$1: missing: ${missing[*]} (names of Debian's packages)" >&2
        return 1
    fi
    echo "$1: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "$1: apt-get update failed, trying with the lists that are here" >&2
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    missing=()
}
