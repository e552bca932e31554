#!/bin/sh
# Starts a real single-node OpenSearch in the foreground, from Maven artifacts alone.
# usage: start.sh HOME HTTP_PORT TRANSPORT_PORT DATA   needs mvn, and a JDK 21 or newer in JAVA_HOME
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$1
version=$(sed -n 's/.*<opensearch.version>\(.*\)<.*/\1/p' "$here/pom.xml")
mkdir -p "$home/lib" "$home/config"
exec 9> "$home/.assembling"
flock 9
assembled=$home/.assembled-$version-opensearch
if [ ! -e "$assembled" ]; then
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$home/lib"
  touch "$assembled"
fi
exec 9>&-
exec "$JAVA_HOME/bin/java" -Xms1g -Xmx1g --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
  -cp "$home/lib/*" "$here/OpenSearchNode.java" "$@"
