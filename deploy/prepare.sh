# What the demo and the tests need of the machine: found, installed where that can be done, or else named. To be sourced.
#
# MILLRACE_CACHE    what is kept from run to run (default ~/.cache/millrace): the virtual environment, built test programs
# CARGO_TARGET_DIR  what Cargo builds (default: `target` in the cache)
# shellcheck shell=bash

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MILLRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millrace}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
export PYTHONDONTWRITEBYTECODE=1
binary=$CARGO_TARGET_DIR/release/millrace
python=$cache/venv/bin/python
mkdir -p "$cache"

say() { echo "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# need_command NAME HOW: HOW says where it comes from.
need_command() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

# Installs Debian packages, or names them if this is not Debian or not root.
need_packages() {
    [ $# -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $*"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >&2 ||
            die "apt-get could not install $* (its output is above)"
    else
        die "missing: $*. Install them (Debian, Ubuntu: sudo apt-get install $*) and start again"
    fi
}

# By the names that bindgen looks for: libclang-cpp.so, which is there without it, is another library.
has_libclang() {
    local directory file
    for directory in "${LIBCLANG_PATH:-/nowhere}" /usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*; do
        for file in "$directory"/libclang.so* "$directory"/libclang-[0-9]*.so*; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

# What RocksDB and librdkafka are built with. A compiler cache serves RocksDB's eight minutes to every further profile and
# target directory.
prepare_cargo() {
    local packages=()
    { command -v g++ && command -v make; } >/dev/null || packages+=(build-essential)
    has_libclang || packages+=(libclang-dev)
    need_packages "${packages[@]}"
    # Not needed, but it shortens a first run: nothing is said if it can't be had.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v ccache >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ccache >/dev/null 2>&1 || true
    fi
    command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
    need_command cargo "install Rust with rustup (https://rustup.rs)"
    if command -v ccache >/dev/null && [ -z "${CC:-}${CXX:-}" ]; then
        export CC='ccache gcc' CXX='ccache g++'
        # RocksDB finds the headers of lz4 at a path that has the profile in it. What they say is compared all the same, and the
        # lock file says which ones there are.
        export CCACHE_IGNOREOPTIONS=-I CCACHE_EXTRAFILES=$repository/Cargo.lock
    fi
}

# A virtual environment with the SDK, kept until the requirements change.
prepare_python() {
    local requirements=$repository/tests/programs/python/requirements.txt
    need_command python3 "install Python 3.11 or later (Debian: python3)"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$(python3 --version) is too old: Python 3.11 or later is needed"
    cmp -s "$requirements" "$cache/venv/requirements.txt" && "$python" -c '' 2>/dev/null && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
    say "setting up a virtual environment in $cache/venv"
    python3 -m venv --clear "$cache/venv" >&2 || die "python3 could not make a virtual environment in $cache/venv"
    "$python" -m pip install -q -r "$requirements" >&2 || die "pip could not install $requirements (its output is above)"
    cp "$requirements" "$cache/venv/requirements.txt"
}

prepare_kafka() {
    need_command java "install a Java runtime, version 17 or later (Debian: openjdk-17-jdk-headless)"
    need_command mvn "install Maven (Debian: maven); it fetches Kafka's jars, once"
}

build_release() {
    MILLRACE_COMMIT=$(git -C "$repository" rev-parse --short HEAD 2>/dev/null || echo unknown) \
        cargo build --release --locked --manifest-path "$repository/Cargo.toml"
}

# A port of loopback that is free, and the next one too.
free_port() {
    python3 - <<'PYTHON'
import random, socket
while True:
    # The system hands out those from 32768 on, and may give one to a connection before it is used.
    port = random.randrange(20_000, 32_000)
    with socket.socket() as first, socket.socket() as second:
        try:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
        except OSError:
            continue
    print(port)
    break
PYTHON
}
