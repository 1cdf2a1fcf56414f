"""Which client an address belongs to, where clients are counted."""

from __future__ import annotations

import ipaddress


def address_group(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one client has for itself.

    An IPv4 address in IPv6 form counts as itself. What is no address (a socket's path) counts by its text.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
