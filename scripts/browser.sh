#!/usr/bin/env bash
# For `make test` alone: the browser that opens the report's page. Nothing fails without one: that test is skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
without="the report's page is not opened in a browser: its test is skipped"
if ! command -v apt-get >/dev/null 2>&1; then
    say "$without (install chromium)"
elif [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
    say "$without (sudo apt-get install -y --no-install-recommends chromium)"
elif ! apt-cache policy chromium 2>/dev/null | grep -q 'Candidate: [^(]'; then
    say "$without (this system has no package chromium)"
else
    say "installing chromium, for the tests"
    install_packages chromium || say "$without (apt-get could not install chromium)"
fi
