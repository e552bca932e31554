#!/bin/bash
# The sensor on aarch64, the processor of small devices, under qemu-user: are its documents those of this machine, and what is the
# most memory that it takes there, the emulator's own included?
#
#   PYTHON=.venv/bin/python bash benchmarks/aarch64.sh [CAPTURE ...]     Debian 12, nothing is installed; a minute for each capture
#
# Debian's packages and the wheels of the lock file for aarch64 are unpacked into a folder, nothing of them is run but by qemu.
# qemu 7.2 hands out this machine's /proc/cpuinfo, which onnxruntime cannot read there, so the folder has one of a Cortex-A72.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${PYTHON:-$here/.venv/bin/python}")
readarray -t captures < <(realpath -e "${@:-$here/tests/data/demo-dict-patator-ftp}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir -p apt/state/lists/partial apt/cache/archives/partial debs root/proc wheels
touch apt/state/status
cat > apt.conf <<END
APT::Architecture "arm64"; APT::Architectures "arm64"; APT::Sandbox::User "root";
Dir::State "$work/apt/state"; Dir::State::status "$work/apt/state/status"; Dir::Cache "$work/apt/cache";
END
APT_CONFIG=$work/apt.conf apt-get -qq update
(cd debs && APT_CONFIG=$work/apt.conf apt-get -qq download libbz2-1.0 libc6 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal \
  libpython3.11-stdlib libsqlite3-0 libssl3 libstdc++6 libuuid1 python3.11-minimal zlib1g)
for deb in debs/*.deb; do dpkg-deb -x "$deb" root; done
apt-get -qq -o APT::Sandbox::User=root download qemu-user-static
dpkg-deb -x qemu-user-static*.deb qemu
for core in 0 1 2 3; do
  printf 'processor\t: %d\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\nCPU implementer\t: 0x41\n' $core
  printf 'CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > root/proc/cpuinfo
sed -E '/^#/d; s/ .*//' "$here/requirements/sensor.lock.txt" > wanted.txt
"$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 -d wheels \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 -r wanted.txt
for wheel in wheels/*.whl; do "$python" -m zipfile -e "$wheel" site; done
measured='
import resource, subprocess, sys

code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=False).returncode
print(f"most memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6:.0f} MB")
sys.exit(code)
'
for capture in "${captures[@]}"; do
  arguments=(-m packetclip_sensor replay "$capture" --config "$here/tests/golden/sensor.yaml" --out)
  (cd "$here" && "$python" "${arguments[@]}" "$work/here.ndjson") > /dev/null 2>&1
  PYTHONPATH=$here:$work/site "$python" -c "$measured" \
    qemu/usr/bin/qemu-aarch64-static -cpu cortex-a72 -L root root/usr/bin/python3.11 "${arguments[@]}" there.ndjson
  "$python" - here.ndjson there.ndjson <<'END'
import json, re, sys

here, there = (open(path).read() for path in sys.argv[1:])
numbers = [[float(n) for n in re.findall(r"-?\d+\.\d+", text)] for text in (here, there)]
ids = [[json.loads(line)["event"]["id"] for line in text.splitlines()] for text in (here, there)]
worst = max((abs(a - b) for a, b in zip(*numbers)), default=0.0)
print(f"{len(ids[0])} documents, ids {'equal' if ids[0] == ids[1] else 'DIFFERENT'}, largest difference of a number {worst:.1e}")
sys.exit(ids[0] != ids[1] or len(numbers[0]) != len(numbers[1]) or worst > 1e-4)
END
done
