# What the scripts of Java programs share. To be sourced, after `say` and `die` are there.
# shellcheck shell=bash

# require_java WHO: WHO needs it.
require_java() {
    command -v java >/dev/null || die "java is missing: install a Java runtime, version 17 or later (Debian: openjdk-17-jre-headless)"
    local version
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${version:-0}" -ge 17 ] || die "java is version ${version:-unknown}, $1 needs 17 or later"
}

# running_pid DIR FILE: the process id of the program of DIR, if it runs: FILE is among its arguments. A number that was reused by
# another program doesn't count.
running_pid() {
    local dir=$1 pid
    [ -f "$dir/pid" ] || return 1
    pid=$(cat "$dir/pid")
    ps -o args= -p "$pid" 2>/dev/null | grep -qF "$dir/$2" || return 1
    echo "$pid"
}

# end DIR FILE WHAT: ends the program of DIR, if it runs.
end() {
    local dir=$1 pid
    pid=$(running_pid "$dir" "$2") || { rm -f "$dir/pid"; return 0; }
    kill "$pid"
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || { rm -f "$dir/pid"; return 0; }
        sleep 0.1
    done
    say "the $3 did not stop within 15 s: killing it"
    kill -9 "$pid"
    rm -f "$dir/pid"
}
