#!/bin/sh
# Tell by name what this machine lacks, and the command that installs it. Usage: check_system.sh PYTHON
python=${1:-python3}
missing=""
if ! command -v "$python" >/dev/null 2>&1; then
    missing="python3 python3-venv"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $python is $("$python" --version 2>&1); Python 3.11 or newer is needed. Name another: make setup PYTHON=python3.12" >&2
    exit 1
elif ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    missing="python3-venv"
fi
command -v git >/dev/null 2>&1 || missing="$missing git"
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086
    echo "setup: missing system packages:" $missing >&2
    echo "       install them with: sudo apt-get install -y" $missing >&2
    exit 1
fi
