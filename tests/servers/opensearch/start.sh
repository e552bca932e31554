#!/bin/sh
# Starts a real single-node OpenSearch in the foreground, from Maven artifacts alone.
# usage: start.sh HOME HTTP_PORT TRANSPORT_PORT DATA KIND   needs mvn, and a JDK 21 or newer in JAVA_HOME
# KIND opensearch-security has the security plugin, with its own users (admin:admin), and TLS between nodes only.
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
secured=$home/.assembled-$version-security
if [ "$5" = opensearch-security ] && [ ! -e "$secured" ]; then
  mkdir -p "$home/security"
  (cd "$home" && mvn -q -B dependency:unpack -Dartifact="org.opensearch.plugin:opensearch-security:$version.0:zip" \
    -DoutputDirectory="$home/security")  # Maven leaves a marker in the folder in which it runs
  mvn -q -B dependency:copy -Dartifact=org.apache.commons:commons-collections4:4.4 -DoutputDirectory="$home/security"
  mkdir -p "$home/config/opensearch-security"
  cp "$home"/security/config/*.yml "$home/config/opensearch-security"
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=packetclip-test -keyout "$home/config/node.key" \
    -out "$home/config/node.pem" 2> /dev/null
  touch "$secured"
fi
exec 9>&-
exec "$JAVA_HOME/bin/java" -Xms1g -Xmx1g --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
  -cp "$home/lib/*:$home/security/*" "$here/OpenSearchNode.java" "$@"
