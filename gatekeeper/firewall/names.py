"""What gatekeeper's things in the kernel are called, so that they can be told from everybody else's. Pure."""

from __future__ import annotations

CHAIN_PREFIX = "GATEKEEPER-"
IN = CHAIN_PREFIX + "IN"
"""mangle INPUT: packets that arrive."""
OUT = CHAIN_PREFIX + "OUT"
"""mangle OUTPUT: what a protected port sends."""
PASS = CHAIN_PREFIX + "PASS"
"""mangle: marks the flow of a granted packet, and hands the packet back."""
RAW = CHAIN_PREFIX + "RAW"
"""raw PREROUTING: keeps knocks out of connection tracking."""

JUMPS = {"mangle": {"INPUT": IN, "OUTPUT": OUT}, "raw": {"PREROUTING": RAW}}
"""Table -> built-in chain -> our chain that it jumps to."""
CHAINS = {"mangle": (IN, OUT, PASS), "raw": (RAW,)}

SET_PREFIX = "gatekeeper-"
VERSIONS = (4, 6)
IPSET_FAMILY = {4: "inet", 6: "inet6"}


def set_name(service: str, version: int) -> str:
    """Name the ipset of a service for one IP version (31 characters at most: IPSET_MAXNAMELEN)."""
    return f"{SET_PREFIX}{version}-{service}"


def fresh_set_name(service: str, version: int) -> str:
    """Name the set that is filled and then swapped with the real one."""
    return f"{SET_PREFIX}t{version}-{service}"
