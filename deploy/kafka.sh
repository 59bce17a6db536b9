#!/usr/bin/env bash
# Starts and stops real Kafka brokers on loopback, for the tests and the demo. No Docker: the jars come from Maven, once,
# into a cache directory. Only the bootstrap address goes to stdout; all else goes to stderr.
#
#   deploy/kafka.sh start DIR PORT [secured]   starts a broker with its data in DIR; the controller listens on PORT + 1
#   deploy/kafka.sh cluster DIR PORT COUNT     starts COUNT brokers that are one cluster, in DIR/1, DIR/2 …: they listen on PORT, PORT + 2 …
#   deploy/kafka.sh start DIR                  starts a broker that was stopped or killed again, as it was, whether it is alone or not
#   deploy/kafka.sh stop DIR                   stops it; the data stays
#
# In a cluster of three, all data has three replicas, of which two acknowledge: one broker may be away. `stop` takes a cluster's DIR too.
# What is in DIR/more.properties goes after a new broker's own settings, and so before them.
# A secured broker also listens on PORT + 2, with TLS and SASL (PLAIN, SCRAM-SHA-512, OAUTHBEARER with unsecured tokens). Its
# certificate is DIR/ca.pem; there is a user millrace with the password millrace-secret, who may do only what ACLs allow.
# Whoever comes to PORT may do everything.
#
# MILLRACE_KAFKA_HOME  where the jars are kept (default ~/.cache/millrace/kafka-<version>)
# MILLRACE_KAFKA_HEAP  the broker's heap (default 512m)
set -euo pipefail

# 4.4.0's metadata is published but a jar of it is missing: pin, never a range.
kafka_version=4.3.1
home=${MILLRACE_KAFKA_HOME:-$HOME/.cache/millrace/kafka-$kafka_version}
heap=${MILLRACE_KAFKA_HEAP:-512m}
ready_seconds_max=60

say() { echo "kafka.sh: $*" >&2; }
die() { say "$*"; exit 1; }
source "$(dirname "${BASH_SOURCE[0]}")/java.sh"

usage() { sed -n '5,8s/^# *//p' "$0" >&2; exit 2; }

user=millrace password=millrace-secret

# Fetches the jars beside the cache directory and moves them into place whole, so that a broken download is never used and
# two callers at once do no harm.
fetch_jars() {
    [ -d "$home/lib" ] && return
    command -v mvn >/dev/null || die "Kafka's jars are not in $home and mvn is missing to fetch them: install Maven (Debian: maven)"
    say "fetching Kafka $kafka_version into $home"
    mkdir -p "$home"
    local staging
    staging=$(mktemp -d "$home/staging.XXXXXX")
    cat >"$staging/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$kafka_version</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.4</version>
    </dependency>
  </dependencies>
</project>
POM
    mvn -B -q -f "$staging/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$staging/lib" >&2 ||
        die "Maven could not fetch Kafka $kafka_version (its output is above)"
    mv -T "$staging/lib" "$home/lib" 2>/dev/null || [ -d "$home/lib" ] || die "could not move the jars to $home/lib"
    rm -rf "$staging"
}

# A key and a certificate of its own, in the JDK's format and the certificate as PEM.
make_certificate() {
    local dir=$1 store=$1/broker.p12
    [ -f "$store" ] && return
    keytool -genkeypair -alias broker -keyalg RSA -validity 3650 -dname CN=127.0.0.1 -ext SAN=ip:127.0.0.1,dns:localhost \
        -keystore "$store" -storetype PKCS12 -storepass "$password" >/dev/null 2>&1 || die "keytool could not make a certificate"
    keytool -exportcert -rfc -alias broker -keystore "$store" -storepass "$password" >"$dir/ca.pem" 2>/dev/null
}

write_security() {
    local dir=$1 port=$2 modules=org.apache.kafka.common.security
    sed -i "s#^listeners=.*#&,SECURED://127.0.0.1:$((port + 2))#; s#^advertised.listeners=.*#&,SECURED://127.0.0.1:$((port + 2))#
        s#^listener.security.protocol.map=.*#&,SECURED:SASL_SSL#" "$dir/server.properties"
    cat >>"$dir/server.properties" <<PROPERTIES
ssl.keystore.type=PKCS12
ssl.keystore.location=$dir/broker.p12
ssl.keystore.password=$password
listener.name.secured.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512,OAUTHBEARER
listener.name.secured.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required user_$user="$password";
listener.name.secured.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.secured.oauthbearer.sasl.jaas.config=$modules.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
PROPERTIES
}

# write_settings DIR PORT [NUMBER VOTERS COUNT]: of a broker that is alone, or the NUMBERth of COUNT.
write_settings() {
    local dir=$1 port=$2 number=${3:-1} voters=${4:-1@127.0.0.1:$(($2 + 1))} count=${5:-1}
    local replicas=$((count < 3 ? count : 3)) insync=$((count < 3 ? 1 : 2))
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$number
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$dir/data
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$insync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$insync
transaction.state.log.num.partitions=16
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
# Without these two, a broker that was killed is refused as a duplicate for nine seconds when it comes back.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
PROPERTIES
    cat >"$dir/log4j2.properties" <<PROPERTIES
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c: %m%n
PROPERTIES
    if [ -f "$dir/more.properties" ]; then cat "$dir/more.properties" >>"$dir/server.properties"; fi
}

new_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '='; }

# format DIR ID OPTION …: once.
format() {
    local dir=$1 id=$2
    shift 2
    [ ! -f "$dir/data/meta.properties" ] || return 0
    java -cp "$home/lib/*" -Dlog4j2.configurationFile="$dir/log4j2.properties" kafka.tools.StorageTool format \
        -t "$id" -c "$dir/server.properties" "$@" >"$dir/format.log" 2>&1 || die "could not format $dir/data: $(tail -n 3 "$dir/format.log")"
}

# new_directory DIR PORT: makes it, and prints its absolute path.
new_directory() {
    local dir=$1 pid
    case $2 in '' | *[!0-9]*) die "'$2' is not a port" ;; esac
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    if pid=$(running_pid "$dir" server.properties); then die "a broker of $dir runs already (process $pid)"; fi
    echo "$dir"
}

start() {
    local dir port=$2 secured=${3:-} scram=()
    require_java "Kafka $kafka_version"
    dir=$(new_directory "$1" "$port")
    fetch_jars
    write_settings "$dir" "$port"
    if [ -n "$secured" ]; then
        make_certificate "$dir"
        write_security "$dir" "$port"
        scram=(--add-scram "SCRAM-SHA-512=[name=$user,password=$password]")
    fi
    format "$dir" "$(new_id)" "${scram[@]}"
    launch "$dir"
    await_ready "$dir"
    echo "127.0.0.1:$port"
}

start_again() {
    local dir pid
    dir=$(cd "$1" 2>/dev/null && pwd) && [ -f "$dir/server.properties" ] || die "there was no broker in $1"
    if pid=$(running_pid "$dir" server.properties); then die "a broker of $dir runs already (process $pid)"; fi
    launch "$dir"
    await_ready "$dir"
    sed -n 's#^advertised.listeners=PLAINTEXT://\([^,]*\).*#\1#p' "$dir/server.properties" | head -n 1
}

cluster() {
    local parent=$1 port=$2 count=$3 id number dir dirs=() voters=() formats=()
    case $count in '' | *[!0-9]* | 0) die "'$count' is not a number of brokers" ;; esac
    require_java "Kafka $kafka_version"
    fetch_jars
    for number in $(seq "$count"); do
        dir=$(new_directory "$parent/$number" "$port")
        dirs+=("$dir") voters+=("$number@127.0.0.1:$((port + 2 * number - 1))")
    done
    id=$(new_id)
    for number in $(seq "$count"); do
        dir=${dirs[number - 1]}
        write_settings "$dir" $((port + 2 * (number - 1))) "$number" "$(IFS=,; echo "${voters[*]}")" "$count"
        format "$dir" "$id" &
        formats+=($!)
    done
    for number in "${formats[@]}"; do wait "$number"; done
    # None is ready before most are there.
    for dir in "${dirs[@]}"; do launch "$dir"; done
    for dir in "${dirs[@]}"; do await_ready "$dir"; done
    for number in $(seq "$count"); do echo "127.0.0.1:$((port + 2 * (number - 1)))"; done | paste -sd ,
}

launch() {
    local dir=$1
    nohup java -Xms"$heap" -Xmx"$heap" -XX:+UseG1GC -cp "$home/lib/*" \
        -Dlog4j2.configurationFile="$dir/log4j2.properties" kafka.Kafka "$dir/server.properties" \
        >"$dir/server.log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
}

await_ready() {
    local dir=$1 waited=0 pid
    pid=$(cat "$dir/pid")
    until grep -q 'Kafka Server started' "$dir/server.log"; do
        kill -0 "$pid" 2>/dev/null || die "the broker stopped at once; the end of $dir/server.log: $(grep -E 'ERROR|FATAL|Exception' "$dir/server.log" | tail -n 5)"
        [ "$waited" -lt $((ready_seconds_max * 10)) ] || { stop "$dir"; die "the broker was not ready after $ready_seconds_max s: see $dir/server.log"; }
        sleep 0.1
        waited=$((waited + 1))
    done
}

stop() {
    local dir number
    dir=$(cd "$1" 2>/dev/null && pwd) || die "$1 is not a directory"
    for number in "$dir"/[0-9]*/; do
        if [ -f "$number/server.properties" ]; then stop "$number" & fi
    done
    wait
    end "$dir" server.properties broker
}

case "${1:-} $# ${4:-secured}" in
'start 2 secured') start_again "$2" ;;
'start 3 secured' | 'start 4 secured') start "$2" "$3" "${4:-}" ;;
'cluster 4 '*) cluster "$2" "$3" "$4" ;;
'stop 2 secured' | 'stop 3 secured') stop "$2" ;;
*) usage ;;
esac
