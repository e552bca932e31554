#!/bin/sh
# Starts a real single-broker Kafka (KRaft) in the foreground, from Maven artifacts alone.
# usage: start.sh HOME PORT CONTROLLER_PORT DATA [PROPERTIES]   needs mvn, and java 17 or newer on PATH or in JAVA_HOME
# HOME keeps the program between runs; DATA keeps the topics.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$1 port=$2 controller=$3 data=$4
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
mkdir -p "$home/lib" "$data"
exec 9> "$home/.assembling"
flock 9
[ -e "$home/.assembled" ] || { mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/lib"; touch "$home/.assembled"; }
exec 9>&-
cat > "$data/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$data/topics
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
P
[ -z "${5:-}" ] || cat "$5" >> "$data/server.properties"
if [ ! -e "$data/topics/meta.properties" ]; then
  id=$("$java" -cp "$home/lib/*" kafka.tools.StorageTool random-uuid 2> /dev/null)
  "$java" -cp "$home/lib/*" kafka.tools.StorageTool format -t "$id" -c "$data/server.properties" > /dev/null 2>&1
fi
exec "$java" -Xmx512m -cp "$home/lib/*" kafka.Kafka "$data/server.properties"
