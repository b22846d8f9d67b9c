#!/usr/bin/env bash
# Executes the Dockerfile's steps and the image's first start in a bare Debian root, without a container engine.
# The base image is stood in for by Debian's own PostgreSQL, its entry point by the few lines at the end.
#
#   docker/run_steps_in_root.sh [suite=bookworm] [dir=/tmp/fresh]      FRESH_WORKTREE=1: see tests/fresh_machine.sh
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=${1:-bookworm}
dir=${2:-/tmp/fresh}
# shellcheck source=scripts/bare_root.sh
. "$repo/scripts/bare_root.sh"
enter_namespaces "$0" "$@"
root=$dir/$suite-docker

make_bare_root
clone_project
inside mv /root/ubp_sql /src
inside find /src -name '*.so' -delete # as Dockerfile.dockerignore leaves them out
note "the base image: PostgreSQL, without Debian's own cluster"
inside bash -euc '. /src/scripts/packages.sh; install_packages postgresql'
for step in build_tools "wheel /src /wheel" server_packages "install /wheel"; do
    note "step: $step"
    # shellcheck disable=SC2086  # a step and its arguments
    inside bash /src/docker/steps.sh $step
done
inside rm -r /src /wheel
mkdir "$root/docker-entrypoint-initdb.d"
cp "$repo"/docker/initdb.d/* "$root/docker-entrypoint-initdb.d/"

note "first start: initdb, the scripts of docker-entrypoint-initdb.d, a query"
cat >"$root/first_start.sh" <<'END'
set -euo pipefail
export PATH=$(ls -d /usr/lib/postgresql/*/bin):$PATH PGDATA=/var/lib/postgresql/data
export POSTGRES_USER=postgres POSTGRES_DB=ubp UBP_SQL_CACHE_DIR=/var/lib/postgresql/ubp-cache PYTHONNOUSERSITE=1
initdb -U "$POSTGRES_USER" -E UTF8 --locale=C.UTF-8 --auth=trust >/dev/null
pg_ctl start -w -s -l /var/lib/postgresql/log -o "-c listen_addresses=''"
createdb "$POSTGRES_DB"
for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
psql -XAt -d "$POSTGRES_DB" -c 'select ubp.version()'
ubp-sql doctor --dsn "user=$POSTGRES_USER dbname=$POSTGRES_DB"
pg_ctl stop -w -s -m fast
END
inside mkdir -p /var/run/postgresql
inside chown postgres:postgres /var/run/postgresql
inside setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/var/lib/postgresql bash /first_start.sh
note "passed"
