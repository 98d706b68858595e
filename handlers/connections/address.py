"""Where a request comes from: the peer, or behind trusted proxies the right-most hop that is not one of them."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
IPV6_CLIENT_BITS = 64  # what one subscriber usually holds


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks of `server.trusted_proxies`; raises ValueError that quotes the entry which is neither."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError as error:
            raise ValueError(
                f"server.trusted_proxies: {text!r} is neither an address nor a network; write 10.0.0.5 or 10.0.0.0/24"
            ) from error
    return tuple(networks)


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """An address without port; an IPv4 address inside IPv6 (::ffff:1.2.3.4) is that IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address.

    `forwarded_for` are the X-Forwarded-For lines in order. They count only when the peer itself is a trusted proxy; a
    malformed hop makes the whole list worthless and the peer's address counts.
    """
    peer_address = parse_address(peer)
    if peer_address is None:
        return peer
    if not trusted or not forwarded_for or not _within(peer_address, trusted):
        return str(peer_address)
    furthest = peer_address
    for hop in reversed(",".join(forwarded_for).split(",")):
        address = parse_address(hop.strip(" \t"))
        if address is None:
            return str(peer_address)
        furthest = address
        if not _within(address, trusted):
            break
    return str(furthest)


def is_loopback(text: str) -> bool:
    address = parse_address(text)
    return address is not None and address.is_loopback


def limiter_bucket(text: str) -> str:
    """What failures are counted under: an IPv4 address, or the /64 of an IPv6 one."""
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, IPV6_CLIENT_BITS), strict=False))
    return text if address is None else str(address)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def names_this_machine(host_name: str) -> bool:
    """Whether a Host header without its port is safe from DNS rebinding: localhost, an address, or this machine's own name."""
    name = host_name.lower()
    return name in ("localhost", socket.gethostname().lower()) or parse_address(name.strip("[]")) is not None
