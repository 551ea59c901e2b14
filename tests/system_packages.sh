#!/bin/sh
# Installs what some tests need beyond Python, where that is possible; says what to do where not.
# Never fails: without these packages the tests that need them are skipped, each with its reason.
set -u

missing=""
[ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || command -v postgres >/dev/null ||
    missing="$missing postgresql"
command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
[ -z "$missing" ] && exit 0

explain() {
    echo "Tests that need$missing will be skipped: $1."
    echo "On Debian or Ubuntu:  sudo apt-get install --no-install-recommends$missing"
    exit 0
}

command -v apt-get >/dev/null || explain "there is no apt-get to install them with"
[ "$(id -u)" = 0 ] || explain "only root can install them"

# The tests start servers of their own; the package's own one is not wanted.
settings=/etc/postgresql-common/createcluster.conf
if [ ! -e "$settings" ]; then
    mkdir -p "${settings%/*}" && echo "create_main_cluster = false" > "$settings"
fi
echo "Installing$missing for the tests."
install="timeout 300 apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 - the words are meant to be split
$install $missing >/dev/null 2>&1 ||
    { timeout 120 apt-get update -qq && $install $missing; } >/dev/null 2>&1 ||
    explain "apt-get could not install them"
