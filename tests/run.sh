#!/usr/bin/env bash
# Runs all tests, from a fresh clone on: installs or names what is missing, builds, and tests. The last line is
# `N passed, N failed`, over all steps; the exit status is 0 only if nothing failed.
#
#   tests/run.sh           everything
#   tests/run.sh STEP …    only these: engine, rust, build, histories, crash, cli, batches, topics, registry, chaos; histories-kafka, crash-embedded or
#                          chaos-brokers name one of several
#
# Without `build` among the steps, the release binary that is there is tested. CRASH_FLAGS are handed to tests/crash/crash.py,
# CHAOS_FLAGS to both forms of chaos.py (for example --seed): chaos-single has one broker, chaos-brokers three.
# `cargo test --test simulation` runs 300 seeds of the simulation; for an hour of new ones:
#   MILLRACE_SIMULATION_SECONDS=3600 cargo test --test simulation -- nightly --ignored --nocapture
set -euo pipefail
source "$(dirname "$0")/../deploy/prepare.sh"
cd "$repository"

programs=$cache/programs
work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-tests.XXXXXX")
export TMPDIR=$work
table=() passed=0 failed=0 job='' broker=''

clean_up() {
    trap - EXIT INT TERM
    if [ -n "$job" ]; then kill -- "-$job" 2>/dev/null || true; fi
    if [ -d "$work/kafka" ]; then deploy/kafka.sh stop "$work/kafka" || true; fi
    if [ "$failed" = 0 ]; then rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'failed=1; exit 130' INT
trap 'failed=1; exit 143' TERM

# selected STEP ARGUMENT …: no arguments select all, `crash` selects crash-kafka.
selected() {
    local step=$1 argument
    shift
    [ $# -gt 0 ] || return 0
    for argument in "$@"; do [[ $step == "$argument" || $step == "$argument"-* ]] && return 0; done
    return 1
}

# run STEP TITLE COMMAND …: counts what the command's output says passed and failed. A command that fails without saying so,
# and one that tests nothing, count as one failure.
run() {
    local step=$1 title=$2 log=$work/$1.log begun=$SECONDS status=0 counts p f
    shift 2
    printf '\n=== %s: %s\n' "$step" "$title"
    set -m # A process group of its own, so that all of it can be ended.
    (set -o pipefail; "$@" 2>&1 </dev/null | tee "$log") &
    job=$!
    set +m
    wait "$job" || status=$?
    job=''
    counts=$(sed -nE 's/^(test result: [a-zA-Z]+\. )?([0-9]+) passed[,;] ([0-9]+) failed.*/\2 \3/p' "$log" | awk '{p += $1; f += $2} END {print p + 0, f + 0}')
    read -r p f <<<"$counts"
    if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
    if [ "$step" != build ] && [ "$((p + f))" = 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    table+=("$(printf '%-20s %6d s %7d passed %5d failed' "$step" "$((SECONDS - begun))" "$p" "$f")")
    printf '=== %s: %d s, %d passed, %d failed\n' "$step" "$((SECONDS - begun))" "$p" "$f"
}

need_broker() {
    [ -z "$broker" ] || return 0
    broker=$(deploy/kafka.sh start "$work/kafka" "$(free_port)")
}

need_binary() { [ -x "$binary" ] || die "there is no $binary: the build failed, or was not among the steps"; }

# on LOG COMMAND …: runs the command, in which {address} stands for it, against a server of its own.
on() {
    local log=$1
    shift
    need_binary
    "$python" tests/cli/with_server.py --binary "$binary" ${log_flags[$log]} -- "$@"
}

histories() { on "$1" "$python" tests/conformance/histories.py check --address '{address}' --build-directory "$programs" --jobs 2; }

crash() {
    need_binary
    go build -C tests/programs/go -o "$programs/go" .
    # shellcheck disable=SC2086
    "$python" tests/crash/crash.py --log "$1" ${log_flags[$1]} ${wipe[$1]} --binary "$binary" --programs-go "$programs/go" ${CRASH_FLAGS:-}
}

chaos() {
    need_binary
    go build -C tests/programs/go -o "$programs/go" .
    # shellcheck disable=SC2086
    "$python" tests/crash/chaos.py "$@" --binary "$binary" --programs-go "$programs/go" ${CHAOS_FLAGS:-}
}

temporal_cli() {
    local temporal
    temporal=$(command -v temporal || echo "$(go env GOPATH)/bin/temporal")
    [ -x "$temporal" ] || go install github.com/temporalio/cli/cmd/temporal@v1.5.1
    on "$1" "$python" tests/cli/temporal_cli.py --address '{address}' --temporal "$temporal"
}

bad_input() {
    need_binary
    "$python" tests/cli/bad_input.py --binary "$binary"
}

topic_api() {
    need_binary
    local workers=()
    if [ "$1" = kafka ]; then
        mvn --quiet --batch-mode --file tests/programs/java package
        workers=(--java tests/programs/java/target/programs.jar)
    fi
    # shellcheck disable=SC2086
    "$python" tests/cli/topic_api.py --binary "$binary" ${log_flags[$1]} "${workers[@]}"
}

batches() {
    need_binary
    # shellcheck disable=SC2086
    "$python" tests/cli/batches.py --binary "$binary" ${log_flags[$1]}
}

secured() {
    need_binary
    "$python" tests/cli/secured.py --binary "$binary"
}

time_skipping() {
    need_binary
    "$python" tests/cli/time_skipping.py --binary "$binary"
    cd tests/programs/typescript
    [ -d node_modules ] || npm ci --silent
    node --import tsx time_skipping/main.ts --binary "$binary"
    cd ../java
    mvn --quiet --batch-mode package
    java -cp target/programs.jar example.millrace.programs.TimeSkipping --binary "$binary"
}

registry() {
    need_binary
    "$python" tests/cli/registry.py --binary "$binary" --brokers "$broker"
}

kafka_client() { on kafka "$python" tests/cli/kafka_client.py --address '{address}' --brokers "$broker" --topic-prefix '{topic_prefix}'; }

prepare_cargo
prepare_python
prepare_kafka
need_command go "install Go 1.26 or later (https://go.dev/dl)"
need_command npm "install Node 20 or later (https://nodejs.org; Debian: nodejs npm)"

declare -A log_flags=([embedded]='' [kafka]='') wipe=([embedded]='' [kafka]='--wipe')
steps() {
    if selected engine "$@"; then run engine "the pure engine, without I/O or C++" cargo test --locked --lib --no-default-features; fi
    if selected rust "$@"; then run rust "all Rust tests, the log's conformance on a real Kafka among them" cargo test --locked --no-fail-fast; fi
    if selected build "$@"; then run build "the release binary" build_release; fi
    for log in embedded kafka; do
        if [ $log = kafka ] && { selected histories-kafka "$@" || selected crash-kafka "$@" || selected cli-kafka "$@" || selected batches-kafka "$@" || selected topics-kafka "$@" || selected registry "$@" || selected chaos-single "$@"; }; then
            need_broker && log_flags[kafka]="--brokers $broker"
        fi
        if selected histories-$log "$@"; then run histories-$log "the programs' histories on the $log log, compared with Temporal's" histories $log; fi
        if selected crash-$log "$@"; then run crash-$log "SIGKILL at random moments on the $log log" crash $log; fi
        if selected cli-$log "$@"; then run cli-$log "the temporal CLI against the $log log" temporal_cli $log; fi
        if selected batches-$log "$@"; then run batches-$log "batches through SIGKILL on the $log log" batches $log; fi
        if selected topics-$log "$@"; then run topics-$log "requests, replies, subscriptions and activities by topics, on the $log log" topic_api $log; fi
    done
    if selected registry "$@"; then run registry "Avro with a schema registry, written and read by Confluent's client" registry; fi
    if selected chaos-single "$@"; then
        run chaos-single "three nodes that are killed, paused and cut off, and their broker restarted" chaos --broker-directory "$work/kafka" --brokers "$broker"
    fi
    if selected chaos-brokers "$@"; then run chaos-brokers "the same with three brokers, which are killed, paused and cut off too" chaos --three-brokers; fi
    if selected cli-bad-input "$@"; then run cli-bad-input "what is to be refused, and how" bad_input; fi
    if selected cli-time-skipping "$@"; then run cli-time-skipping "the SDKs' test environments that skip time" time_skipping; fi
    if selected cli-secured "$@"; then run cli-secured "a broker with TLS, SASL and ACLs" secured; fi
    if selected cli-kafka-client "$@"; then run cli-kafka-client "requests and results by a plain Kafka client" kafka_client; fi
}
steps "$@"

printf '\n'
printf '%s\n' "${table[@]}"
[ "$failed" = 0 ] || printf 'The output of each step, and the logs of servers that failed, are in %s\n' "$work"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
