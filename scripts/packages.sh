# Sourced by the other scripts: says what is missing, and installs it from Debian's packages.

missing=()

# need PACKAGE... -- COMMAND...: the packages are missing when the command fails.
need() {
    local packages=()
    while [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    shift
    "$@" >/dev/null 2>&1 || missing+=("${packages[@]}")
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "These are missing, by their Debian names: ${missing[*]}" >&2
        exit 1
    fi
    echo "Installing ${missing[*]}" >&2
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}"
    missing=()
}

# Directory of the newest installed PostgreSQL's programs.
postgres_bin() {
    local newest initdb
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    if [ -x "$newest/initdb" ]; then
        echo "$newest"
    else
        initdb=$(command -v initdb) && dirname "$initdb"
    fi
}

can_compile() {
    echo 'int main(void) { return 0; }' | cc -x c -o /dev/null -
}

need_to_build() {
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! command -v cargo >/dev/null; then
        echo 'Rust is missing: install it with rustup, so that cargo is on PATH' >&2
        exit 1
    fi
    need gcc libc6-dev -- can_compile
    need postgresql -- postgres_bin
}

# What the torture uses beside PostgreSQL; without root it leaves some of it out.
need_to_torture() {
    need nats-server -- sh -c 'test -x /usr/sbin/nats-server || command -v nats-server'
    need libfaketime -- sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
    need xfsprogs -- sh -c 'PATH=$PATH:/sbin:/usr/sbin; command -v xfs_io'
    need e2fsprogs mount util-linux -- sh -c 'PATH=$PATH:/sbin:/usr/sbin
        command -v mkfs.ext4 && command -v mount && command -v unshare && command -v fallocate'
}

# torture PROGRAM ARGUMENT...: runs it so that nothing it mounts or starts outlives it, where that is possible.
torture() {
    local alone=()
    if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork --mount-proc true 2>/dev/null; then
        # The shell in between looks after processes whose parents were killed.
        alone=(unshare --mount --pid --fork --kill-child --mount-proc sh -c '"$@"; exit $?' sh)
    fi
    "${alone[@]}" "$@"
}
