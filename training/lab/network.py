"""Hosts as network namespaces on one bridge. Every name starts with PREFIX, so that leftovers of a killed run can be found.

A host with a link gets delay, jitter, loss and reordering: by netem where the kernel has it, else by a process (`link.py`) in a
namespace of its own between the host's and the switch's. It dies with that namespace, as everything else of a capture does.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from training.lab.link import Link
from training.lab.plan import Capture, Host

PREFIX = "pcl-"
ETC = Path("/etc/netns")
LINK = Path(__file__).with_name("link.py")


def namespace(capture: Capture, host: str) -> str:
    """The namespace's name for a host of a capture. The dot ends the capture's name, which may be the start of another's."""
    return f"{PREFIX}{capture.name}.{host}"


def _ip(lines: list[str], name: str = "") -> None:
    inside = ["-n", name] if name else []
    subprocess.run(["ip", *inside, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)


def command_in(name: str, argv: list[str]) -> list[str]:
    """`argv` as a command that runs inside namespace `name`, with the files of /etc/netns/NAME laid over /etc."""
    return ["ip", "netns", "exec", name, *argv]


def _sysctls(host: Host) -> list[str]:
    values = {
        "net.ipv4.ip_default_ttl": host.ttl,
        "net.ipv6.conf.all.hop_limit": host.ttl,
        "net.ipv6.conf.default.hop_limit": host.ttl,
        "net.ipv6.conf.all.accept_dad": 0,
        "net.ipv6.conf.default.accept_dad": 0,
        "net.ipv4.conf.all.rp_filter": 0,
        "net.ipv4.icmp_echo_ignore_broadcasts": 0,
        "net.ipv4.ping_group_range": "0 2147483647",
        **host.sysctls,
    }
    return [f"{key}={value}" for key, value in values.items()]


def build(capture: Capture, accounts: dict[str, str]) -> None:
    """Make the bridge, the hosts, their addresses, routes and links. `accounts` is laid over /etc of every host, by file name.

    Offloads are switched off: packets on the bridge are then no longer than the MTU and carry true checksums.

    Raises:
        subprocess.CalledProcessError: the kernel refused a device, an address or a route.
    """
    switch = namespace(capture, "sw")
    names = [namespace(capture, host.name) for host in capture.hosts]
    for name in [switch, *names]:
        folder = ETC / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in accounts.items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o640 if file == "shadow" else 0o644)
    _ip([f"netns add {name}" for name in [switch, *names]])
    _ip(["link add br0 type bridge mcast_snooping 0"], switch)
    for index, (host, name) in enumerate(zip(capture.hosts, names, strict=True)):
        _attach(capture, host, name, switch, f"p{index}")
    _ip([f"link set br0 mtu {capture.mtu} up"], switch)


def _attach(capture: Capture, host: Host, name: str, switch: str, port: str) -> None:
    """Make a host's eth0 and the bridge's port for it, with the host's link between them."""
    subprocess.run(command_in(name, ["sysctl", "-qw", *_sysctls(host)]), check=True, stdout=subprocess.DEVNULL)
    between = host.link is not None and not netem()
    middle = namespace(capture, f"{host.name}.line")
    if between:
        _ip([f"netns add {middle}"])
        subprocess.run(command_in(middle, ["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]), check=True)
        pairs = [(name, "eth0", middle, "host"), (middle, "port", switch, port)]
    else:
        pairs = [(name, "eth0", switch, port)]
    for one, device, other, peer in pairs:
        mac = f"address {host.mac} " if device == "eth0" else ""
        _ip([f"link add {device} {mac}netns {one} type veth peer {peer} netns {other}"])
        for where, which in ((one, device), (other, peer)):
            off = ["ethtool", "-K", which, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"]
            subprocess.run(command_in(where, off), check=False, capture_output=True)
            if (where, which) != (name, "eth0"):
                _ip([f"link set {which} mtu {capture.mtu} up"], where)
    _ip([f"link set {port} master br0"], switch)
    lines = ["link set lo up", f"link set eth0 mtu {capture.mtu} up"]
    lines += [f"addr add {address} dev eth0{' nodad' if ':' in address else ''}" for address in host.addresses]
    lines += [f"route add {route}" for route in host.routes]
    _ip(lines, name)
    if host.link and between:
        argv = [sys.executable, "-E", str(LINK), json.dumps(asdict(host.link)), "host", "port", f"{capture.seed}/{host.mac}"]
        subprocess.Popen(command_in(middle, argv), start_new_session=True, stdin=subprocess.DEVNULL)
    elif host.link:
        for where, device in ((name, "eth0"), (switch, port)):
            subprocess.run(["tc", "-n", where, "qdisc", "add", "dev", device, "root", "netem", *_netem(host.link)], check=True)
    elif host.rate_mbit:
        shape = f"qdisc add dev eth0 root tbf rate {host.rate_mbit}mbit burst 64k latency 100ms"
        subprocess.run(["tc", "-n", name, *shape.split()], check=True)


def _netem(link: Link) -> list[str]:
    """The link in tc-netem(8)'s words, whose jitter lies on both sides of the delay."""
    half = link.jitter_ms / 2
    words = f"limit 4000 delay {link.delay_ms + half:.3f}ms {half:.3f}ms loss {100 * link.loss:.4f}% rate {link.rate_mbit}mbit"
    return [*words.split(), *(["reorder", f"{100 * link.reorder:.4f}%"] if link.reorder else [])]


@functools.cache
def netem() -> bool:
    """True where the kernel has netem: tried in a namespace made for it."""
    name = f"{PREFIX}probe{threading.get_ident()}"
    try:
        _ip([f"netns add {name}"])
        asked = f"tc -n {name} qdisc add dev lo root netem delay 1ms"
        return subprocess.run(asked.split(), check=False, capture_output=True).returncode == 0
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def remove(prefix: str) -> int:
    """Kill every process in namespaces whose name starts with `prefix` and delete them. Returns how many there were."""
    found = [path.name for path in Path("/run/netns").glob(f"{prefix}*")] if Path("/run/netns").is_dir() else []
    for name in found:
        _kill(name)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    for folder in ETC.glob(f"{prefix}*"):
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def _kill(name: str) -> None:
    for _ in range(5):
        listed = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout.split()
        if not listed:
            return
        for pid in listed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)
