#!/usr/bin/env bash
# What some tests stand beside the gateway, and a machine need not have: other proxies, a browser, containers, a C compiler for
# their libc, NodeTool's worker. Where Debian's packages can be installed, what is missing is; where not, it is said which tests will be skipped.
# That is never a failure, and a machine that has them all loses no time.
set -uo pipefail

# The program that tests look for, and the package that it is in.
peers=(nginx:nginx haproxy:haproxy caddy:caddy chromium:chromium podman:podman runc:runc musl-gcc:musl-tools)
PATH=$PATH:/usr/sbin:/usr/local/sbin

missing() {
  local peer
  for peer in "${peers[@]}"; do
    command -v "${peer%%:*}" >/dev/null || echo "${peer##*:}"
  done
}

say() { printf '%s\n' "$*"; }

# Quietly, within its time, and without questions. A mirror that is away is asked twice.
apt() {
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
    -o DPkg::Lock::Timeout=60 "$@" >/dev/null
}

install_packages() {
  # A test starts its own: none is to be started here because it was installed.
  local policy=/usr/sbin/policy-rc.d package
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f '"$policy" EXIT
  fi
  apt update || return
  apt install --yes --no-install-recommends "$@" && return
  # One that this Debian does not have is no reason to go without the others.
  for package in "$@"; do apt install --yes --no-install-recommends "$package"; done
}

# NodeTool's own worker, in a folder of its own: its packages are not those of the other tests.
install_worker() {
  local list=tests/clients/nodetool.txt venv
  venv=$(node tools/paths.mjs)/nodetool
  cmp --silent "$list" "$venv/installed.txt" && return
  say "Installing NodeTool's worker into $venv"
  if python3 -m venv --clear "$venv" >/dev/null && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list"; then
    cp "$list" "$venv/installed.txt"
  else
    rm -rf "$venv"
    say "NOT here: nodetool-core, so the tests that need it are SKIPPED: it could not be installed"
  fi
}

cd "$(dirname "$0")/.." || exit 0
install_worker

mapfile -t wanted < <(missing)
[ ${#wanted[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  why="only root may install packages (apt-get install ${wanted[*]})"
elif ! command -v apt-get >/dev/null; then
  why="there is no apt-get here"
else
  say "Installing ${wanted[*]}"
  install_packages "${wanted[@]}"
  mapfile -t wanted < <(missing)
  why="it could not be installed"
fi
for package in "${wanted[@]}"; do say "NOT here: $package, so the tests that need it are SKIPPED: $why"; done
exit 0
