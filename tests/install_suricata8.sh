#!/usr/bin/env bash
# Puts Suricata 8.0 of Debian 13's backports into a folder beside the system's own Suricata, for the tests: a Debian tree
# (about 600 MB) and a program `suricata` that runs with the libraries of the tree. Root on Debian.
#   tests/install_suricata8.sh [FOLDER]
set -euo pipefail
folder=${1:-/var/tmp/packetclip-suricata8}
[[ $(id -u) -eq 0 ]] && command -v apt-get > /dev/null || { echo "needs root and apt-get; tests with Suricata 8.0 skip"; exit 0; }
# The mirror that this machine's own sources name.
mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null || true; } |
  sed -n 's/^URIs: *\([^ ]*debian\)\/*$/\1/p; s/^deb \(\[.*\] \)*\([^ ]*debian\)\/* .*/\2/p' | sed -n 1p)
[[ -n $mirror ]] || { echo "no mirror of Debian among this machine's sources; tests with Suricata 8.0 skip"; exit 0; }
command -v debootstrap > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends debootstrap > /dev/null
debootstrap --variant=minbase trixie "$folder/root" "$mirror" > /dev/null
echo "deb $mirror trixie-backports main" > "$folder/root/etc/apt/sources.list.d/backports.list"
chroot "$folder/root" apt-get -qq update
DEBIAN_FRONTEND=noninteractive chroot "$folder/root" apt-get -qq install -y --no-install-recommends -t trixie-backports suricata > /dev/null
cat > "$folder/suricata" << END
#!/bin/sh
exec "$folder"/root/lib64/ld-linux-*.so.* --library-path "$folder/root/usr/lib/$(uname -m)-linux-gnu" "$folder/root/usr/bin/suricata" "\$@"
END
chmod +x "$folder/suricata"
"$folder/suricata" -V
