"""One reading of addresses and networks, for logs, labels, options and rules."""

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.pairs.labels import Labels
from packetclip_sensor.records import addresses


def test_a_host_and_a_network_are_read_in_any_spelling() -> None:
    assert addresses.network("192.0.2.7/24") == ip_network("192.0.2.0/24")
    assert addresses.network("192.0.2.7") == ip_network("192.0.2.7/32")
    assert [addresses.spelled(text) for text in ("2001:DB8:0::1", "192.0.2.7/24")] == ["2001:db8::1", "192.0.2.0/24"]
    assert addresses.address("2001:DB8:0::1") == ip_address("2001:db8::1")


@pytest.mark.parametrize("text", ["", "office", "192.0.2.300", "192.0.2.7/33", " 192.0.2.7", "fe80::1%eth0"])
def test_what_is_none_is_refused_with_the_remedy(text: str) -> None:
    assert addresses.address(text) is None
    assert not addresses.inside(text, [ip_network("0.0.0.0/0"), ip_network("::/0")])
    with pytest.raises(addresses.AddressError, match=r"is neither a host nor a network; write 192.0.2.7 or 192.0.2.0/24"):
        addresses.network(text)
    with pytest.raises(addresses.AddressError, match="is no address"):
        addresses.host(text)


def test_a_host_is_inside_a_network_of_its_own_version_alone() -> None:
    networks = [ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")]
    assert [addresses.inside(host, networks) for host in ("192.0.2.7", "2001:db8::7", "192.0.3.7")] == [True, True, False]


@pytest.mark.parametrize("side", ["attacker", "victim"])
def test_a_mistyped_network_of_a_labels_file_is_refused(tmp_path: Path, side: str) -> None:
    interval = {"label": "SYN Flood", "attacker": ["spoofed"], "victim": ["192.0.2.10"], "start": 0, "end": 1}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"capture": "syn-1", "intervals": [interval]}))
    assert Labels.load(path)
    path.write_text(json.dumps({"capture": "syn-1", "intervals": [interval | {side: ["192.0.2.10", "192.0.2.0/42"]}]}))
    with pytest.raises(LogFormatError, match=r"labels.json: '192.0.2.0/42' is neither a host nor a network; write "):
        Labels.load(path)
