#!/usr/bin/env bash
# The Dockerfile's RUN steps, one function each, so that docker/run_steps_in_root.sh can execute the very same ones
# where no container engine is at hand: bash steps.sh STEP [ARGUMENT...]
set -euo pipefail

PREFIX=/opt/ubp-sql

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    rm -rf /var/lib/apt/lists/*
}

server_major() { # 15; official images say it in PG_MAJOR
    if [ -n "${PG_MAJOR:-}" ]; then echo "$PG_MAJOR"; else ls /usr/lib/postgresql | sort -n | tail -n 1; fi
}

linked_python() { # 3.11: the minor that PL/Python links; only that one's compiled libraries can be loaded
    ldd "/usr/lib/postgresql/$(server_major)/lib/plpython3.so" | grep -o 'libpython3\.[0-9]*' | head -n 1 | cut -c10-
}

build_tools() {
    apt_install python3-venv
}

wheel() { # $1: the sources, $2: where the wheel goes
    python3 -m venv /tmp/build
    /tmp/build/bin/pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir "$2" "$1"
    rm -rf /tmp/build
}

server_packages() {
    apt_install "postgresql-plpython3-$(server_major)" python3-venv libgomp1
}

install() { # $1: the directory of the wheel
    local python wheels
    python=$(linked_python)
    wheels=("$1"/ubp_sql-*.whl)
    "/usr/bin/python$python" -m venv "$PREFIX"
    "$PREFIX/bin/pip" install -qq --no-cache-dir --disable-pip-version-check "${wheels[0]}[train,report]"
    # PL/Python starts with the system's search path; this line adds ours to it, at its end.
    echo "$PREFIX/lib/python$python/site-packages" >"/usr/local/lib/python$python/dist-packages/ubp_sql.pth"
    ln -sf "$PREFIX/bin/ubp-sql" /usr/local/bin/ubp-sql
    # The native scorer is linked once, here, where the package can still be written; the compiler does not stay.
    apt_install gcc libc6-dev
    "$PREFIX/bin/python" -c 'from ubp_sql.install.native import build; print(build())'
    apt-get purge -y -qq --auto-remove gcc libc6-dev >/dev/null
    mkdir -p /var/lib/postgresql/ubp-cache
    chown postgres:postgres /var/lib/postgresql/ubp-cache
    chmod 700 /var/lib/postgresql/ubp-cache
}

"$@"
