# Sourced: a bare Debian root, made by debootstrap, that gets its packages in the way of this machine.
# Needs root. Expects suite and dir; gives $root, make_bare_root, inside and note. Mounts and processes live in
# namespaces of their own and end with the script, however it ends.

base=$dir/$suite-base
root=$dir/$suite-root

enter_namespaces() { # runs the calling script again, in its own mount and process namespaces: "$0" "$@"
    local program
    if [ -n "${BARE_ROOT_INSIDE:-}" ]; then return; fi
    if [ "$(id -u)" -ne 0 ]; then echo "$0: needs root (for debootstrap and chroot)" >&2; exit 1; fi
    for program in debootstrap chroot unshare git; do
        if ! command -v "$program" >/dev/null; then echo "$0: needs $program" >&2; exit 1; fi
    done
    export BARE_ROOT_INSIDE=1
    exec unshare --mount --pid --fork --kill-child --mount-proc bash "$@"
}

note() { printf '== %s\n' "$*"; }

apt_sources() { # this machine's sources of the suite: URIs, and the files themselves into the root
    local file
    mkdir -p "$1/etc/apt/sources.list.d"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [ -f "$file" ] && grep -qE "^(deb|Suites:).*[[:space:]]$suite([[:space:]]|-|\$)" "$file"; then
            if [ "$1" = / ]; then
                grep -oE '(https?|ftp|file|copy):[^[:space:]]+' <(grep -vE '^#' "$file") || true
            else
                cp "$file" "$1$file"
            fi
        fi
    done
}

host_configuration() { # apt, pip, certificates and names, as on this machine
    local item path
    rm -f "$root/etc/apt/sources.list"
    apt_sources "$root"
    for item in /etc/apt/keyrings /etc/apt/trusted.gpg.d /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/pip.conf \
        "$HOME/.config/pip" "$HOME/.pip" /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
        if [ -e "$item" ]; then
            mkdir -p "$root$(dirname "$item")"
            cp -rL "$item" "$root$(dirname "$item")/"
        fi
    done
    apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|AllowInsecure|ForceIPv4)' \
        >"$root/etc/apt/apt.conf.d/90host" || true
    # Local package directories that pip's configuration names; an index (file://) links to its neighbours.
    for item in $({ python3 -m pip config list 2>/dev/null; env | grep '^PIP_'; } | grep -oE "(file://)?/[^ '\"]+" | sort -u); do
        path=${item#file://}
        if [ "$path" != "$item" ]; then path=$(dirname "$path"); fi
        if [ -d "$path" ]; then
            mkdir -p "$root$path"
            mount --bind -o ro "$path" "$root$path"
        fi
    done
}

host_variables() { # NAME=value of proxies, pip and certificates; nothing else of this machine's environment
    env | grep -iE '^(https?_proxy|no_proxy|all_proxy|PIP_[A-Z_]+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|GIT_SSL_CAINFO)=' || true
}

inside() { # runs a command in the root as its root user
    local variables
    mapfile -t variables < <(host_variables)
    env -i "${variables[@]}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 \
        chroot "$root" "$@"
}

make_bare_root() { # debootstrap once, a copy of it each time
    local mirror
    mkdir -p "$dir"
    if ! [ -e "$base/.complete" ]; then
        note "debootstrap of $suite into $base"
        rm -rf "$base"
        mirror=$(apt_sources / | grep -vE 'security|/updates' | head -n 1)
        debootstrap --variant=minbase --include=git,make,python3,ca-certificates "$suite" "$base" ${mirror:+"$mirror"} >"$dir/debootstrap.log"
        touch "$base/.complete"
    fi
    exec 9>"$root.lock"
    if ! flock -n 9; then echo "$0: another run works in $root" >&2; exit 1; fi
    note "a fresh copy of it in $root"
    rm -rf --one-file-system "$root"
    cp -a --reflink=auto "$base" "$root"
    rm "$root/.complete"
    mount -t proc proc "$root/proc"
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    mkdir -p "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    host_configuration
}

clone_project() { # into /root/ubp_sql: the last commit, or the working tree if FRESH_WORKTREE is set
    local source
    source=$repo
    if [ -n "${FRESH_WORKTREE:-}" ]; then
        source=$dir/worktree
        rm -rf "$source"
        mkdir "$source"
        git -C "$repo" ls-files -coz --exclude-standard | (cd "$repo" && xargs -0 -I{} sh -c '[ -e "$1" ] && printf "%s\0" "$1"' - {}) |
            tar -C "$repo" --null -T - -cf - | tar -C "$source" -xf -
        git -C "$source" init -q
        git -C "$source" add -A
        git -C "$source" -c user.name=worktree -c user.email=worktree@localhost commit -qm "working tree"
    fi
    git -C "$source" bundle create -q "$root/root/ubp_sql.bundle" HEAD --branches
    inside git clone -q /root/ubp_sql.bundle /root/ubp_sql
}
