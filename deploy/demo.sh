#!/usr/bin/env bash
# Shows Millrace at work, from a fresh clone on: builds it, starts it, runs an order through it in a worker on the official
# Python SDK, and shows what that left behind. Ends by itself.
#
#   deploy/demo.sh           on the embedded log: nothing else to install
#   deploy/demo.sh --kafka   on a real Kafka broker, which it fetches and starts
set -euo pipefail
source "$(dirname "$0")/prepare.sh"
cd "$repository"

ready_seconds_max=30
kafka=''
case "$*" in
'') ;;
'--kafka') kafka=yes ;;
*) die "usage: deploy/demo.sh [--kafka]" ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/millrace-demo.XXXXXX")
server=''

clean_up() {
    trap - EXIT INT TERM
    if [ -n "$server" ]; then kill "$server" 2>/dev/null && wait "$server" || true; fi
    if [ -d "$work/kafka" ]; then deploy/kafka.sh stop "$work/kafka" || true; fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Shows a command, then runs it. What it prints may go elsewhere.
exec 3>&1
show() {
    printf '$ %s\n' "$*" >&3
    "$@"
}

wait_until_ready() {
    local waited=0
    until (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        kill -0 "$server" 2>/dev/null || die "the server ended at once: $(tail -n 5 "$work/server.log")"
        [ "$waited" -lt $((ready_seconds_max * 20)) ] || die "the server does not answer after $ready_seconds_max s: $(tail -n 5 "$work/server.log")"
        sleep 0.05
        waited=$((waited + 1))
    done
}

heading "1. What is needed: a release build of Millrace, and Python with the SDK (the first time takes a while)"
prepare_cargo
prepare_python
if [ -n "$kafka" ]; then prepare_kafka; fi
build_release
port=$(free_port) metrics_port=$(free_port)
address=127.0.0.1:$port metrics=http://127.0.0.1:$metrics_port/metrics

heading "2. A server"
if [ -n "$kafka" ]; then
    echo '$ deploy/kafka.sh start …'
    brokers=$(deploy/kafka.sh start "$work/kafka" "$(free_port)")
    command=("$binary" server --brokers "$brokers" --data-dir "$work/data" --listen "$address" --metrics-listen "127.0.0.1:$metrics_port")
    consume=(--brokers "$brokers")
else
    command=("$binary" server start-dev --port "$port" --db-filename "$work/data" --headless --log-level warn --metrics-port "$metrics_port")
    consume=(--address "$address")
fi
echo "\$ ${command[*]}"
"${command[@]}" >"$work/server.log" 2>&1 </dev/null &
server=$!
wait_until_ready
echo "serves at $address"

heading "3. An order, in a worker on Temporal's Python SDK: the payment gateway is down at first"
show "$python" tests/programs/python/order.py --address "$address" --sleep 2 >"$work/order.log" || die "the order failed (its output is above)"
read -r workflow_id run_id < <(tail -n 1 "$work/order.log" |
    "$python" -c 'import json, sys; [order] = json.load(sys.stdin)["executions"]; print(order["workflow_id"], order["run_id"])')

heading "4. Its history"
show "$python" deploy/history_table.py "$address" "$workflow_id" "$run_id"

heading "5. Its completion, as consumed from the log"
show "$binary" consume completions --from-beginning --max 1 "${consume[@]}" >"$work/completion.json"
"$python" -m json.tool --no-ensure-ascii "$work/completion.json"

heading "6. Its traces in the metrics, at $metrics"
"$python" -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())' "$metrics" >"$work/metrics"
grep -E '^millrace_(build_info|workflows_|workflow_duration_seconds_(count|sum)|activity_(attempts|completions).*_total|partition_position_offset\{partition="0")' "$work/metrics" ||
    die "there is none of Millrace's metrics at $metrics"

heading "7. The end"
kill "$server"
wait "$server" || die "the server did not end cleanly: $(tail -n 5 "$work/server.log")"
server=''
echo "The server has ended cleanly. To go on by yourself:"
echo "\$ ${binary/#$HOME/\~} server start-dev"
