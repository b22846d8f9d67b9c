#!/usr/bin/env bash
# The proof of the two commands: a bare Debian with git, make and python3 and nothing else, a clone, `make demo`,
# `make test`, and `make demo` again, as root, with the clone below /root, where the server's account cannot look.
#
#   tests/fresh_machine.sh [suite=bookworm] [dir=/tmp/fresh]
#   FRESH_STEPS="setup"      other make targets than "demo test demo"; FRESH_MAKE="USERS=500" goes to each of them
#   FRESH_WORKTREE=1         the working tree as it is instead of the last commit
#   FRESH_SHARED=/some/dir   shows a directory as ../shared, for DATA=../shared/data/...
#
# Needs root and debootstrap. Packages come as they do on this machine: its apt sources, pip configuration, proxies
# and certificates are taken over.
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=${1:-bookworm}
dir=${2:-/tmp/fresh}
# shellcheck source=scripts/bare_root.sh
. "$repo/scripts/bare_root.sh"
enter_namespaces "$0" "$@"

make_bare_root
note "clone into /root/ubp_sql"
clone_project
if [ -n "${FRESH_SHARED:-}" ]; then
    mkdir -p "$root/root/shared"
    mount --bind -o ro "$FRESH_SHARED" "$root/root/shared"
fi

failed=0
for step in ${FRESH_STEPS:-demo test demo}; do
    note "make $step ${FRESH_MAKE:-}"
    begin=$(date +%s.%N)
    # shellcheck disable=SC2086  # several words are wanted
    if inside make -C /root/ubp_sql "$step" ${FRESH_MAKE:-}; then outcome=passed; else outcome=FAILED failed=1; fi
    note "make $step $outcome after $(awk "BEGIN {printf \"%.1f\", $(date +%s.%N) - $begin}") s"
    if [ $failed = 1 ]; then break; fi
done
exit $failed
