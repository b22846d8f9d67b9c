#!/usr/bin/env bash
# For `make test` alone: the browser that opens the report's page. Nothing fails without one: that test is skipped.
# Chromium's headless shell is 470 MB with what it needs, Chromium with its windows 650 MB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
package=chromium-headless-shell
stamp=.venv/ubp-no-browser # tried once a checkout: where there is no such package, apt-get takes long to say so
without="the report's page is not opened in a browser: its test is skipped"
if ! command -v apt-get >/dev/null 2>&1; then
    say "$without (install chromium)"
elif [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    say "$without (sudo apt-get install -y --no-install-recommends $package)"
elif [ -e "$stamp" ]; then
    say "$without (apt-get could not install $package; rm $stamp to try again)"
else
    say "installing $package, for the tests"
    install_packages $package || {
        touch "$stamp" 2>/dev/null || true
        say "$without (apt-get could not install $package)"
    }
fi
