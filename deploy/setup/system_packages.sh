#!/usr/bin/env bash
# Installs the Debian packages whose *commands* are missing, and nothing else.
# usage: system_packages.sh run|test
set -euo pipefail

missing=()
need() { command -v "$1" >/dev/null 2>&1 || [ -x "$1" ] || missing+=("$2"); }

case "${1:-run}" in
  run) ;;
  test)
    need mosquitto mosquitto
    need /usr/sbin/mosquitto mosquitto
    need mosquitto_pub mosquitto-clients
    need cc gcc
    [ -e /usr/include/modbus/modbus.h ] || missing+=(libmodbus-dev pkg-config)
    need git git
    need npm npm
    need systemd-analyze systemd
    ;;
  *) echo "usage: $0 run|test" >&2; exit 2 ;;
esac
# venv without ensurepip makes an environment without pip: ask Python itself
"${PYTHON:-python3}" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)

[ "${#missing[@]}" -eq 0 ] && exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || {
    echo "reconf setup: needs root or sudo once, to install: ${missing[*]}" >&2
    exit 1
  }
  sudo=(sudo)
fi
echo "reconf setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
