#!/usr/bin/env bash
# Install the system packages of the named sections of packages.txt that are missing; without any
# missing it does nothing and needs no network. Usage: setup-system.sh SECTION...
set -euo pipefail
list="$(dirname "$0")/packages.txt"

section() {
    awk -v want="[$1]" '/^\[/ { inside = ($0 == want); found = found || inside; next }
        inside && !/^(#|$)/ { print }
        END { exit !found }' "$list" || {
        echo "setup-system.sh: packages.txt has no section [$1]" >&2
        exit 2
    }
}

installed() {
    [ "${1#/}" = "$1" ] || { [ -e "$1" ]; return; }
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# A line is satisfied when one of its alternatives is installed.
satisfied() {
    local name
    for name in ${1//|/ }; do
        installed "$name" && return 0
    done
    return 1
}

first_available() {
    local name
    for name in ${1//|/ }; do
        [ "${name#/}" = "$name" ] || continue
        if apt-cache show "$name" 2>/dev/null | grep '^Filename:' >/dev/null; then
            echo "$name"
            return 0
        fi
    done
    echo "setup-system.sh: no package of this distribution provides: $1" >&2
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup-system.sh: root or sudo is needed to install: ${missing[*]}" >&2
        exit 1
    fi
}

lines=()
for name in "$@"; do
    text=$(section "$name")
    while IFS= read -r line; do lines+=("$line"); done <<<"$text"
done
missing=()
for line in "${lines[@]}"; do
    if ! command -v dpkg-query >/dev/null; then
        echo "setup-system.sh: not Debian or Ubuntu: please see to these yourself: ${lines[*]}" >&2
        exit 0
    fi
    satisfied "$line" || missing+=("$line")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}"
as_root apt-get -q -o DPkg::Lock::Timeout=600 update >/dev/null
packages=()
for line in "${missing[@]}"; do
    package=$(first_available "$line")
    packages+=("$package")
done

# The tests start their own redis, nginx and supervisor; the packages shall not start theirs.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
fi
as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 install "${packages[@]}"
