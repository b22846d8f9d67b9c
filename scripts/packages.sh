# Sourced: installs PostgreSQL with PL/Python and what the package needs, where they are missing.
# Used by scripts/setup.sh (any Debian or Ubuntu) and by docker/steps.sh.

say() { printf '  %s\n' "$*" >&2; }

stop() {
    printf 'setup: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

# The newest PL/Python library on this machine; nothing if there is none.
plpython_library() {
    local bindir library
    if [ -n "${UBP_SQL_PG_BINDIR:-}" ]; then
        library="$("$UBP_SQL_PG_BINDIR/pg_config" --pkglibdir)/plpython3.so"
        if [ -e "$library" ]; then echo "$library"; fi
        return
    fi
    for bindir in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rn || true); do
        library="${bindir%/bin}/lib/plpython3.so"
        if [ -x "$bindir/initdb" ] && [ -e "$library" ]; then
            echo "$library"
            return
        fi
    done
}

# The Python minor that a PL/Python library is linked with: 3.11
linked_python() {
    ldd "$1" | grep -o 'libpython3\.[0-9]*' | head -n 1 | cut -c10- || true
}

# Debian's name of the PL/Python package: that of the newest server installed, else of the distribution's own one.
# (Each pipe may find nothing, which is an answer and no failure: the callers run under set -e and pipefail.)
plpython_package() {
    local major
    major=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | cut -d/ -f5 | sort -rn | head -n 1 || true)
    if [ -z "$major" ]; then
        major=$(apt-cache depends postgresql 2>/dev/null | grep -o 'postgresql-[0-9]*$' | head -n 1 | cut -d- -f2 || true)
    fi
    echo "postgresql-plpython3-${major:-15}"
}

# Prints the packages that are missing, by what they bring rather than by name.
missing_packages() {
    local library python
    library=$(plpython_library)
    if [ -z "$library" ]; then
        if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then echo postgresql; fi
        plpython_package
    fi
    if ! ls /usr/lib/*/libgomp.so.1 >/dev/null 2>&1; then echo libgomp1; fi
    if ! command -v cc >/dev/null 2>&1; then echo gcc; fi
    if ! [ -e /usr/include/stdio.h ]; then echo libc6-dev; fi
    python=
    if [ -n "$library" ]; then python=$(linked_python "$library"); fi
    if [ -z "$python" ]; then
        echo python3-venv
    elif ! { [ -x "/usr/bin/python$python" ] && "/usr/bin/python$python" -c 'import ensurepip, venv' 2>/dev/null; }; then
        echo "python$python-venv"
    fi
}

# Installs packages; Debian's own cluster on port 5432 is not made, unless a server is there already.
install_packages() {
    local as_root=() guard=/etc/postgresql-common/createcluster.d/ubp-sql.conf log
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
    log=$(mktemp)
    run() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@" >>"$log" 2>&1; }
    local first_server=no
    if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then first_server=yes; fi
    if [ "$first_server" = yes ]; then
        run mkdir -p "${guard%/*}"
        run sh -c "echo 'create_main_cluster = false' >$guard"
    fi
    local installed=yes
    # The list may be empty or old: update it only if it is needed, since a mirror may be out of reach.
    local install=(apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@")
    if ! run "${install[@]}"; then
        run apt-get -o DPkg::Lock::Timeout=120 update || true
        run "${install[@]}" || installed=no
    fi
    if [ "$first_server" = yes ]; then run rm -f "$guard" || true; fi
    if [ "$installed" = no ]; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
