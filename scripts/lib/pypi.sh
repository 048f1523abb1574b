# Sourced: packages of PyPI in a cached virtual environment, beside whatever this machine has.
# Needs lib/need.sh.
# shellcheck shell=bash

# prepare_pypi SCRIPT NAME PACKAGES...: sets PYPI to the folder of the environment's modules. It is
# made anew when Python or the packages are others than last time.
prepare_pypi() {
    local script=$1 name=$2 version
    shift 2
    local place=${MERPATI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/merpati}/pypi-$name
    version="$(python3 -c 'import sys; print(sys.executable, sys.version)') $*"
    if [ "$(cat "$place/complete" 2>/dev/null)" != "$version" ]; then
        echo "$script: installing $* from PyPI"
        rm -rf "$place"
        python3 -m venv "$place"
        "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$@" || {
            echo "$script: pip cannot install $*" >&2
            rm -rf "$place"
            return 1
        }
        printf '%s\n' "$version" >"$place/complete"
    fi
    PYPI=$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    export PYPI
}
