#!/usr/bin/env bash
# setup.sh [packages]: make this machine ready to run everything in the Makefile; run again, it does only what is missing.
#
# 1. Debian packages whose programs are missing: installed when we are root, else the one apt-get line is printed and the
#    script fails. Their daemons are not started (without-daemons.sh).
# 2. .venv with this project and its development tools (not with `packages`). A stamp in it says what it was made
#    from; another pyproject.toml, Python or folder makes it anew.
#
# Output of apt and pip goes to build/setup.log, whose path is printed when something fails.
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
log=$root/build/setup.log
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# program, Debian package that brings it, what for
needs="
rtpengine rtpengine-daemon  media node of the lab, the bench and some tests
kamailio  kamailio          peer of the bench
sipp      sip-tester        load of the bench
ip        iproute2          network namespaces of the lab
nft       nftables          NAT and loss in the lab
tcpdump   tcpdump           captures of the lab
gcc       gcc               compiled build of the hot path
"

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# logged TITLE COMMAND...: run it quietly, its output in the log; returns its status.
logged() {
    say "$1"
    printf '\n== %s\n' "${*:2}" >>"$log"
    "${@:2}" >>"$log" 2>&1 </dev/null
}

broken() {
    echo "setup: $1 failed; the log $log ends:" >&2
    tail -n 15 "$log" | sed 's/^/    /' >&2
    exit 1
}

# A Python of 3.11 or newer that can make virtual environments; nothing when there is none. $PYTHON is asked first.
usable_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if have "$candidate" && "$candidate" -c '
import sys
import ensurepip, venv
sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# Whether C extensions can be made for this Python. One that is not Debian's own brings its headers itself.
has_headers() {
    [[ $(readlink -f "$1") != /usr/bin/* ]] && return 0
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null
}

missing_packages() {
    local program package _
    while read -r program package _; do
        if [[ -n $program ]] && ! have "$program"; then echo "$package"; fi
    done <<<"$needs"
    [[ -e /usr/include/stdio.h ]] || echo libc6-dev
    usable_python >/dev/null || printf '%s\n' python3 python3-venv
    has_headers "$(usable_python || echo /usr/bin/python3)" || echo python3-dev
}

install_packages() {
    local packages=("$@")
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300)
    local install=("$root/scripts/without-daemons.sh" "${apt[@]}" install --no-install-recommends "${packages[@]}")
    have apt-get || fail "this is no Debian (no apt-get); install by hand what brings these Debian packages: ${packages[*]}"
    if [[ $(id -u) != 0 ]]; then
        echo "setup: Debian packages are missing. Run this once, then the same make again:" >&2
        echo "    sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
        echo "setup: (that starts the daemons of kamailio and rtpengine; \`sudo make packages\` installs them without)" >&2
        exit 1
    fi
    local updated=no
    if ! apt-cache show "${packages[@]}" >/dev/null 2>&1; then
        logged "apt-get update" "${apt[@]}" update || broken "apt-get update"
        updated=yes
    fi
    logged "apt-get install ${packages[*]} (some minutes; daemons are not started)" "${install[@]}" && return 0
    [[ $updated == yes ]] && broken "apt-get install"
    logged "that failed; apt-get update, and once more" "${apt[@]}" update || broken "apt-get update"
    logged "apt-get install ${packages[*]}" "${install[@]}" || broken "apt-get install"
}

install_venv() {
    local python stamp key
    python=$(usable_python) || fail "no python3 of 3.11 or newer with venv and ensurepip; on Debian install python3-venv, elsewhere name one: PYTHON=/path/to/python3 make ..."
    stamp=.venv/.made-from
    key="$root $("$python" -VV | tr '\n' ' ') $(sha256sum <pyproject.toml)"
    if [[ -r $stamp && $(<"$stamp") == "$key" ]] && .venv/bin/python -c '' 2>/dev/null; then return 0; fi
    logged ".venv with $("$python" -V) ($python)" "$python" -m venv --clear .venv || broken "making .venv"
    logged "pip install -e .[dev] (a minute)" .venv/bin/python -m pip install --disable-pip-version-check -e '.[dev]' \
        || broken "pip install"
    echo "$key" >"$stamp"
}

main() {
    cd "$root" && mkdir -p build || fail "cannot write to $root"
    exec 9<"$root" && flock 9 # one setup at a time
    : >"$log"
    local packages
    mapfile -t packages < <(missing_packages)
    if ((${#packages[@]})); then
        install_packages "${packages[@]}"
        mapfile -t packages < <(missing_packages)
        ((${#packages[@]} == 0)) || fail "still missing after the installation: ${packages[*]}; see $log"
    fi
    [[ ${1:-} == packages ]] || install_venv
    say "ready"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
