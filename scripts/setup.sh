# Shared by the scripts beside it, which source it: Debian packages, a Python with venv, the environment in .venv.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# need PACKAGE=PROGRAM…: install by apt the packages whose program is missing.
need() {
    local each packages=()
    for each in "$@"; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${each#*=}" >/dev/null || packages+=("${each%%=*}")
    done
    [ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
}

# Services among the packages are neither started nor enabled.
install_packages() {
    command -v apt-get >/dev/null || fail "not installed: $* (and here is no apt-get to do it)"
    may_be_root "$@"
    say "apt-get install $*"
    # Debian starts a service as soon as it is installed, unless this file says no (101).
    policy=/usr/sbin/policy-rc.d
    if ! [ -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
    fi
    apt_install "$@" || { as_root apt-get update -q >&2 && apt_install "$@"; } || fail "apt-get could not install $*"
    if [ -n "$(trap -p EXIT)" ]; then
        as_root rm -f "$policy"
        trap - EXIT
    fi
    keep_off "$@"
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" </dev/null >&2
}

keep_off() {
    local each service
    [ -d /run/systemd/system ] || return 0
    for each in "$@"; do
        case $each in
            nginx | redis-server) service=$each ;;
            php-fpm) service=$(cd /lib/systemd/system && compgen -G 'php*-fpm.service' | head -n 1) ;;
            *) continue ;;
        esac
        as_root systemctl disable --quiet "$service"
        say "$each: installed, its service left off (systemctl enable --now $service turns it on)"
    done
}

may_be_root() {
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "not installed: $*; there is no sudo, so run as root: apt-get install $*"
        [ -t 0 ] || sudo -n true 2>/dev/null || fail "not installed: $*; run: sudo apt-get install $*"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# environment [EXTRAS]: .venv with this checkout and what the extras name; quick where nothing changed.
environment() {
    local extras=${1:-} stamp state
    .venv/bin/python -c '' 2>/dev/null || make_venv
    stamp=.venv/installed${extras:+-${extras//,/-}}
    state="$(cksum <pyproject.toml) $PWD"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        say "pip install${extras:+ with $extras} (once)"
        .venv/bin/python -m pip install --quiet --editable ".${extras:+[$extras]}" </dev/null >&2
        printf '%s' "$state" >"$stamp"
    fi
}

make_venv() {
    local python
    find_python >/dev/null || ! command -v apt-get >/dev/null || install_packages python3 python3-venv
    python=$(find_python) || fail "Python 3.11 or later is needed; PYTHON=/path/to/python3 names one"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
    say "making .venv with $("$python" --version) ($python)"
    rm -rf .venv
    "$python" -m venv .venv
}

# The first Python that is new enough; PYTHON names one. The system's comes first: one that was built by hand without profiling takes twice
# the time for everything.
find_python() {
    local each
    for each in "${PYTHON:-}" /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if [ -n "$each" ] && "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$each"
            return
        fi
    done
    return 1
}
