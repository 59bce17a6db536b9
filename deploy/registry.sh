#!/usr/bin/env bash
# Starts and stops one real schema registry on loopback, for the tests: Apicurio, whose API is compatible with Confluent's. No
# Docker: it comes from Maven, once, into a cache directory. Only the URL of the API goes to stdout; all else goes to stderr.
#
#   deploy/registry.sh start DIR PORT   starts a registry with its data in DIR
#   deploy/registry.sh stop DIR         stops it; the data stays, and with it the ids
#
# MILLRACE_REGISTRY_HOME  where the program is kept (default ~/.cache/millrace/apicurio-<version>)
# MILLRACE_REGISTRY_HEAP  the registry's heap (default 384m)
set -euo pipefail

# The last that runs on Java 17.
registry_version=3.0.9
home=${MILLRACE_REGISTRY_HOME:-$HOME/.cache/millrace/apicurio-$registry_version}
heap=${MILLRACE_REGISTRY_HEAP:-384m}
ready_seconds_max=120
program=apicurio-registry-app-$registry_version-runner.jar

say() { echo "registry.sh: $*" >&2; }
die() { say "$*"; exit 1; }
source "$(dirname "${BASH_SOURCE[0]}")/java.sh"

usage() { sed -n '5,6s/^# *//p' "$0" >&2; exit 2; }

# Fetches the program beside the cache directory and moves it into place whole, so that a broken download is never used and
# two callers at once do no harm.
fetch_program() {
    [ -f "$home/app/$program" ] && return
    command -v mvn >/dev/null || die "Apicurio is not in $home and mvn is missing to fetch it: install Maven (Debian: maven)"
    say "fetching Apicurio $registry_version into $home"
    mkdir -p "$home"
    local staging
    staging=$(mktemp -d "$home/staging.XXXXXX")
    mvn -B -q dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$registry_version:tar.gz:all" \
        -DoutputDirectory="$staging" >&2 || die "Maven could not fetch Apicurio $registry_version (its output is above)"
    mkdir "$staging/app"
    tar -xzf "$staging"/*.tar.gz -C "$staging/app"
    mv -T "$staging/app" "$home/app" 2>/dev/null || [ -d "$home/app" ] || die "could not move the program to $home/app"
    rm -rf "$staging"
}

start() {
    local dir=$1 port=$2 pid url
    case $port in '' | *[!0-9]*) die "'$port' is not a port" ;; esac
    url=http://127.0.0.1:$port/apis/ccompat/v7
    require_java "Apicurio $registry_version"
    command -v curl >/dev/null || die "curl is missing: install it (Debian: curl)"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    if pid=$(running_pid "$dir" data); then die "a registry of $dir runs already (process $pid)"; fi
    fetch_program
    # Its database may take longer than the five seconds that it is given, on a busy machine.
    nohup java -Xmx"$heap" -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
        -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 \
        -Dapicurio.datasource.url="jdbc:h2:file:$dir/data" -Dapicurio.datasource.jdbc.initial-size=2 -Dapicurio.datasource.jdbc.min-size=2 \
        -Dquarkus.datasource.h2.jdbc.acquisition-timeout=60S \
        -jar "$home/app/$program" >"$dir/server.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/pid"
    local waited=0
    until curl -sf -o /dev/null "$url/subjects"; do
        kill -0 "$pid" 2>/dev/null || die "the registry stopped at once; the end of $dir/server.log: $(tail -n 5 "$dir/server.log")"
        [ "$waited" -lt $((ready_seconds_max * 5)) ] || { stop "$dir"; die "the registry was not ready after $ready_seconds_max s: see $dir/server.log"; }
        sleep 0.2
        waited=$((waited + 1))
    done
    echo "$url"
}

stop() {
    local dir
    dir=$(cd "$1" 2>/dev/null && pwd) || die "$1 is not a directory"
    end "$dir" data registry
}

case "${1:-} $#" in
'start 3') start "$2" "$3" ;;
'stop 2') stop "$2" ;;
*) usage ;;
esac
