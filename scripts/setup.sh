#!/usr/bin/env bash
# All set-up on a fresh machine: system packages, then .venv with the Python that PL/Python links. Idempotent: when
# nothing changed it ends in a moment, without network or package manager. pip's and apt's configuration are yours.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

SETUP_VERSION=1 # raise it to make every checkout install anew
STAMP=.venv/ubp-setup-stamp

stamp() { # what the installation in .venv depends on; $1: the Python minor
    cat pyproject.toml ubp_sql/__init__.py | sha256sum | cut -c1-32
    echo "python $1 setup $SETUP_VERSION at $PWD"
}

if [ "$(uname -s)" != Linux ]; then stop "only Linux is supported" "use docker/ on other systems"; fi

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        stop "missing: ${missing[*]}" "install them with this system's package manager (names are Debian's), then run it again"
    fi
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        stop "some system packages are missing; run this line, then the same command again:" \
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    say "installing system packages: ${missing[*]}"
    install_packages "${missing[@]}" || stop "apt-get could not install: ${missing[*]}" "its last lines are above"
    mapfile -t missing < <(missing_packages) # only now is it known which Python PL/Python links
    if [ ${#missing[@]} -gt 0 ]; then
        install_packages "${missing[@]}" || stop "apt-get could not install: ${missing[*]}" "its last lines are above"
    fi
fi

library=$(plpython_library)
if [ -z "$library" ]; then stop "PL/Python is still missing after the installation of $(plpython_package)"; fi
minor=$(linked_python "$library")
python=/usr/bin/python$minor
if ! [ -x "$python" ]; then stop "PL/Python links Python $minor, but there is no $python"; fi

if [ -e .venv ] || [ -L .venv ]; then
    if ! .venv/bin/python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$minor' or sys.prefix == sys.base_prefix)" 2>/dev/null; then
        say ".venv is broken or has another Python than $minor: making it anew"
        rm -rf .venv
    fi
fi
if ! [ -x .venv/bin/ubp-sql ] || [ "$(cat "$STAMP" 2>/dev/null)" != "$(stamp "$minor")" ]; then
    if ! [ -d .venv ]; then
        say "making .venv with $python"
        "$python" -m venv .venv || stop "$python cannot make a virtual environment" "see above"
    fi
    rm -f "$STAMP"
    say "installing the package and its libraries (a minute or two, some hundred MB)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --editable '.[dev]' ||
        stop "pip could not install the package" "its message is above; pip reads its own configuration and PIP_* variables"
    stamp "$minor" >"$STAMP"
    say "done"
fi
