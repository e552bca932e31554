"""Hosts as network namespaces on one bridge. Every name starts with PREFIX, so that leftovers of a killed run can be found."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from training.lab.plan import Capture, Host

PREFIX = "pcl-"
ETC = Path("/etc/netns")


def namespace(capture: Capture, host: str) -> str:
    """The namespace's name for a host of a capture; unique over all captures, at most 15 characters before the host's name."""
    return f"{PREFIX}{capture.name}-{host}"


def _ip_batch(lines: list[str]) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)


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
    """Make the bridge, the hosts, their addresses and routes. `accounts` is laid over /etc of every host, by file name.

    Offloads are switched off: packets on the bridge are then no longer than the MTU and carry true checksums.
    """
    switch = namespace(capture, "sw")
    names = [namespace(capture, host.name) for host in capture.hosts]
    for name in [switch, *names]:
        folder = ETC / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in accounts.items():
            (folder / file).write_text(text)
            (folder / file).chmod(0o640 if file == "shadow" else 0o644)
    _ip_batch([f"netns add {name}" for name in [switch, *names]])
    subprocess.run(["ip", "-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"], check=True)
    for index, (host, name) in enumerate(zip(capture.hosts, names, strict=True)):
        port = f"p{index}"
        subprocess.run(
            ["ip", "link", "add", "eth0", "address", host.mac, "netns", name, "type", "veth", "peer", port, "netns", switch],
            check=True,
        )
        subprocess.run(command_in(name, ["sysctl", "-qw", *_sysctls(host)]), check=True, stdout=subprocess.DEVNULL)
        for where, device in ((name, "eth0"), (switch, port)):
            off = ["ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", "rx", "off"]
            subprocess.run(command_in(where, off), check=False, capture_output=True)
        subprocess.run(["ip", "-n", switch, "link", "set", port, "master", "br0", "mtu", str(capture.mtu), "up"], check=True)
        lines = ["link set lo up", f"link set eth0 mtu {capture.mtu} up"]
        lines += [f"addr add {address} dev eth0{' nodad' if ':' in address else ''}" for address in host.addresses]
        lines += [f"route add {route}" for route in host.routes]
        subprocess.run(
            ["ip", "-n", name, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, capture_output=True
        )
        if host.rate_mbit:
            shape = [
                "qdisc",
                "add",
                "dev",
                "eth0",
                "root",
                "tbf",
                "rate",
                f"{host.rate_mbit}mbit",
                "burst",
                "64k",
                "latency",
                "100ms",
            ]
            subprocess.run(["tc", "-n", name, *shape], check=True)
    subprocess.run(["ip", "-n", switch, "link", "set", "br0", "mtu", str(capture.mtu), "up"], check=True)


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
