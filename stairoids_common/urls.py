"""Tell the hosts of this machine from others, which need https."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Return whether a host name or address belongs to this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
