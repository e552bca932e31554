"""Addresses and networks as logs, labels and people write them: the same text means the same hosts everywhere."""

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressError(ValueError):
    """A text that should name a host or a network and does not; the message has the text and the remedy."""


@lru_cache(maxsize=1 << 14)
def address(text: str) -> Address | None:
    """The address that a text spells; None where it spells none, as a log line may hold anything.

    An IPv6 zone (fe80::1%eth0) is a name of one machine's own, which no log writes and Elasticsearch's type `ip` refuses: none.
    """
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


@lru_cache(maxsize=1 << 14)
def network(text: str) -> Network:
    """The network, or the host as a network of one, that a person wrote; of 192.0.2.7/24 the whole of it.

    Raises:
        AddressError: it is neither.
    """
    with suppress(ValueError):
        if "%" not in text:
            return ipaddress.ip_network(text, strict=False)
    raise AddressError(f"{text!r} is neither a host nor a network; write 192.0.2.7 or 192.0.2.0/24")


def host(text: str) -> str:
    """An address in the one spelling that Zeek has for it.

    Raises:
        AddressError: it is none.
    """
    found = address(text)
    if found is None:
        raise AddressError(f"{text!r} is no address")
    return str(found)


def spelled(text: str) -> str:
    """A host or a network in Zeek's spelling.

    Raises:
        AddressError: it is neither.
    """
    found = network(text)
    return str(found if "/" in text else found.network_address)


def inside(text: str, networks: Iterable[Network]) -> bool:
    """Whether a host is in one of the networks; a text that is no address is in none."""
    found = address(text)
    return found is not None and any(found in one for one in networks)
