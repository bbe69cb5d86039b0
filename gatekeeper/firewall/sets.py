"""Grants and networks as the text that ``ipset restore`` reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from gatekeeper import steps
from gatekeeper.firewall.members import KNOCKED_FOR
from gatekeeper.firewall.names import (
    IPSET_FAMILY,
    VERSIONS,
    always_set,
    begun_set,
    busy_set,
    fresh_set,
    knocked_set,
    never_set,
    set_name,
)
from gatekeeper.networks import Source
from gatekeeper.settings import Mode, Rules

MAX_TIMEOUT = 2_147_483
"""The longest timeout that an ipset takes, in seconds (ip_set_timeout.h: UINT_MAX / MSEC_PER_SEC / 2)."""
BUSY_WITHIN = 2
"""Seconds in which datagrams with a tag are counted, from the first on."""
_OPTIONS = "hashsize 1024 maxelem 1048576 timeout 0"


def create_text(rules: Rules) -> str:
    """Write what makes the sets where they are not there yet, and fills those of ``always`` and ``never``."""
    members = [_create(set_name(name, version), version) for name in rules.services for version in VERSIONS]
    networks = [
        _replace(name, version, [f"{source} timeout 0" for source in sources])
        for name, (version, sources) in _networks(rules).items()
    ]
    return "".join(members + networks + _senders(rules))


def names_of(rules: Rules) -> set[str]:
    """Name all the sets that these rules need."""
    members = {set_name(name, version) for name in rules.services for version in VERSIONS}
    return members | set(_networks(rules)) | names_of_senders(rules)


def names_of_senders(rules: Rules) -> set[str]:
    """Name the sets that the kernel fills by itself, for moments."""
    return {line.split()[1] for line in _senders(rules)}


def _senders(rules: Rules) -> list[str]:
    """Write what makes these. An IPv6 network of 64 bits counts as one sender."""
    lines = []
    for version in VERSIONS:
        kind = f"hash:ip family {IPSET_FAMILY[version]}{' netmask 64' if version == 6 else ''} maxelem"
        # Full, the first lets somebody go who knocked earlier, and the second counts nobody more: no knock is lost for
        # it. The third is never full, for the rules note only as many as it holds (steps.py); each has a timeout there.
        if rules.mode is Mode.GUARD:
            lines.append(f"create {knocked_set(version)} {kind} 65536 timeout {KNOCKED_FOR} forceadd -exist\n")
            lines.append(f"create {busy_set(version)} {kind} 65536 timeout {BUSY_WITHIN} counters -exist\n")
        if rules.has_sequences:
            lines.append(f"create {begun_set(version)} {kind} {steps.IN_KERNEL} timeout 1 -exist\n")
    return lines


def network_sizes(rules: Rules) -> dict[str, int]:
    """Count the members that the sets of ``always`` and ``never`` should have."""
    return {name: len(set(sources)) for name, (_, sources) in _networks(rules).items()}


def networks_text(rules: Rules, names: Iterable[str]) -> str:
    """Write what gives some sets of ``always`` and ``never`` their members and no others, in one step a set."""
    wanted = _networks(rules)
    return "".join(_replace(name, wanted[name][0], [f"{one} timeout 0" for one in wanted[name][1]]) for name in names)


def replace_members_text(members: Mapping[str, Mapping[Source, int | None]]) -> str:
    """Write what gives each service's set these members and no others, in one step a set.

    The values are seconds left (``None``: no timeout).
    """
    return "".join(
        _replace(
            set_name(name, version),
            version,
            [
                f"{source} timeout {kernel_timeout(timeout)}"
                for source, timeout in sources.items()
                if source.version == version
            ],
        )
        for name, sources in members.items()
        for version in VERSIONS
    )


def members(saved: str) -> list[Source]:
    """Read the members in the text of ``ipset save``."""
    return [ip_network(line.split()[2]) for line in saved.splitlines() if line.startswith("add ")]


def _networks(rules: Rules) -> dict[str, tuple[int, list[Source]]]:
    found: dict[str, tuple[int, list[Source]]] = {}
    for version in VERSIONS:
        wanted = {never_set("", version): rules.never}
        for service in rules.services.values():
            wanted[always_set(service.name, version)] = service.always
            wanted[never_set(service.name, version)] = service.never
        for name, sources in wanted.items():
            ours = [source for source in sources if source.version == version]
            if ours:
                found[name] = (version, list(_halved(ours)))
    return found


def _halved(sources: Iterable[Source]) -> Iterator[Source]:
    """Write a network of everything as its halves: a hash:net holds no prefix of length 0."""
    for source in sources:
        if source.prefixlen == 0:
            yield from source.subnets()
        else:
            yield source


def _replace(name: str, version: int, entries: Iterable[str]) -> str:
    fresh = fresh_set(name)
    lines = [f"add {fresh} {entry} -exist\n" for entry in entries]
    return (
        f"{_create(name, version)}{_create(fresh, version)}flush {fresh}\n{''.join(lines)}"
        f"swap {fresh} {name}\ndestroy {fresh}\n"
    )


def _create(name: str, version: int) -> str:
    return f"create {name} hash:net family {IPSET_FAMILY[version]} {_OPTIONS} -exist\n"


def kernel_timeout(seconds: int | None) -> int:
    """Turn seconds left into an ipset timeout: 0 stands for "never", and the kernel has a longest one."""
    return 0 if seconds is None else max(1, min(seconds, MAX_TIMEOUT))
