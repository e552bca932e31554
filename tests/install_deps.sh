#!/usr/bin/env bash
# Installs the Debian packages that the tests need and that are missing, where this user may: root with apt-get.
# Elsewhere it says what is missing; the tests that need it then skip with the reason, or fail where CI is set.
set -euo pipefail

# Another apt (unattended upgrades, a second `make test`) may be at work: ten minutes are waited for its locks. The option covers
# dpkg's; that of the package lists, which `update` takes, has none, so that is tried again.
WAIT_S=600
apt_get() {
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout="$WAIT_S" -qq "$@" > /dev/null
}
update_lists() {
  local left said
  for ((left = WAIT_S / 5; left > 0; left--)); do
    said=$(apt_get update 2>&1) && return 0
    [[ $said == *"Could not get lock"* || $said == *"Unable to lock"* ]] || break
    echo "waiting for another apt to end"
    sleep 5
  done
  echo "$said" >&2
  return 1
}

jdk_is_new_enough() {
  local release
  for release in "${JAVA_HOME:-/nonexistent}/release" /usr/lib/jvm/*/release /opt/*/release; do
    [[ -e $release ]] || continue
    local major
    major=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$release")
    [[ ${major:-0} -ge 21 && -x ${release%/release}/bin/javac ]] && return 0
  done
  return 1
}

# Lua rules as suricata_scripts/ needs them came with Suricata 7.0.
suricata_is_new_enough() {
  command -v suricata > /dev/null && [[ $(suricata -V | sed -n 's/.*version \([0-9]*\).*/\1/p') -ge 7 ]]
}

# Debian 12 has Suricata 6, its backports have 7.0: from the mirror that this machine's sources name for bookworm.
add_bookworm_backports() {
  apt-cache policy | grep 'n=bookworm-backports' > /dev/null && return
  local file out=/etc/apt/sources.list.d/packetclip-backports
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -e $file ]] || continue
    awk -v RS= '/\nSuites:[^\n]* bookworm( |\n|$)/ { sub(/\nSuites:[^\n]*/, "\nSuites: bookworm-backports"); print; exit }' "$file" > "$out.sources"
    [[ -s $out.sources ]] && return
  done
  rm -f "$out.sources"
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null || true; } |
    sed -n 's/^\(deb .*\) bookworm main.*/\1 bookworm-backports main/p' | sed -n 1p > "$out.list"
  [[ -s $out.list ]] || rm -f "$out.list"
}

missing=()
command -v mvn > /dev/null || missing+=(maven)
command -v tcpdump > /dev/null || missing+=(tcpdump)
command -v tshark > /dev/null || missing+=(tshark)
command -v ip > /dev/null || missing+=(iproute2)
command -v nmap > /dev/null || missing+=(nmap)
command -v hydra > /dev/null || missing+=(hydra)
command -v dropbear > /dev/null || [[ -x /usr/sbin/dropbear ]] || missing+=(dropbear-bin)
command -v ping > /dev/null || missing+=(iputils-ping)
command -v nginx > /dev/null || [[ -x /usr/sbin/nginx ]] || missing+=(nginx)
[[ -e /usr/lib/x86_64-linux-gnu/rsyslog/omkafka.so || -e /usr/lib/aarch64-linux-gnu/rsyslog/omkafka.so ]] || missing+=(rsyslog rsyslog-kafka)
command -v openssl > /dev/null || missing+=(openssl)
command -v setfacl > /dev/null || missing+=(acl)
command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null || missing+=(chromium)

root_with_apt() { [[ $(id -u) -eq 0 ]] && command -v apt-get > /dev/null; }

if ! jdk_is_new_enough && [[ $(id -u) -eq 0 ]] && command -v apt-cache > /dev/null; then
  for package in openjdk-25-jdk-headless openjdk-21-jdk-headless; do
    if apt-cache policy "$package" 2> /dev/null | grep -q 'Candidate: [0-9]'; then
      missing+=("$package")
      break
    fi
  done
fi

if [[ ${#missing[@]} -gt 0 ]]; then
  if root_with_apt; then
    echo "installing ${missing[*]}"
    update_lists
    apt_get install -y --no-install-recommends "${missing[@]}"
  else
    echo "missing: ${missing[*]}; tests that need them skip (install them as root to run these tests)"
  fi
fi
# By itself, since a release without it must not keep the others from being installed.
if ! suricata_is_new_enough; then
  suricata=(suricata)
  if root_with_apt && [[ $(< /etc/os-release) == *VERSION_CODENAME=bookworm* ]]; then
    add_bookworm_backports
    suricata=(suricata/bookworm-backports libhtp2/bookworm-backports)
  fi
  if root_with_apt && update_lists && apt_get install -y --no-install-recommends "${suricata[@]}"; then
    echo "installed ${suricata[*]}"
  else
    echo "missing: suricata 7.0 or newer; tests that need it skip"
  fi
fi
jdk_is_new_enough || echo "missing: a JDK of 21 or newer (set JAVA_HOME); tests with a real Elasticsearch skip"
