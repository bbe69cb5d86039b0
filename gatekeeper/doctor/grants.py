"""Whether the kernel lets in those that the store says, and nobody else."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from ipaddress import ip_network

from gatekeeper.doctor.files import open_store
from gatekeeper.doctor.finding import CannotLookError, Finding, ok, wrong
from gatekeeper.doctor.scene import Saved, Scene
from gatekeeper.firewall import saved as ours
from gatekeeper.firewall import tools
from gatekeeper.firewall.names import from_chain, set_name
from gatekeeper.networks import Source, show_source
from gatekeeper.settings import Rules
from gatekeeper.store.sqlite import FILE

_SOON = 2.0
"""Seconds before its end in which a grant may be in the kernel, or not."""
_A_MOMENT = 0.3
"""Seconds after which a grant that was being put into the kernel is there."""

Grants = dict[tuple[str, Source], float]
"""When they end (Unix seconds), by service and source."""
_MANY = 5


def live(scene: Scene) -> Grants:
    """Read the live grants in the store; none if there is no store.

    Raises:
        CannotLookError: it cannot be read.
    """
    path = scene.state_dir / FILE
    try:
        if not path.exists():
            return {}
        with contextlib.closing(open_store(path)) as db:
            rows = db.execute("SELECT service, source, expires_at FROM grants").fetchall()
    except (OSError, sqlite3.Error) as error:
        raise CannotLookError(f"{path}: {error}", needs_root=True) from error
    found: Grants = {}
    for service, source, end in rows:
        key = service, ip_network(source)
        until = float("inf") if end is None else float(end)
        if until > scene.now:
            found[key] = max(until, found.get(key, 0.0))
    return found


def check(scene: Scene) -> Iterator[Finding]:
    """Compare the store with the kernel; and once more a moment later, for grants come and go."""
    there = scene.ours
    if scene.rules is None or not there:
        return  # that there is no ruleset is found elsewhere
    faults = list(_compare(scene, scene.rules, there))
    if faults:
        time.sleep(_A_MOMENT)
        again = {one.what for one in _compare(scene, scene.rules, scene.look_again())}
        faults = [one for one in faults if one.what in again]
    yield from faults[:_MANY]
    if not faults:
        yield ok("the kernel lets in those who have a grant, and nobody else")


def _compare(scene: Scene, rules: Rules, there: list[Saved]) -> Iterator[Finding]:
    stored = {key: end for key, end in live(scene).items() if key[0] in rules.services}
    kernel = _in_kernel(rules, there)
    hint = "restart `gatekeeper run`: it puts the store's grants into the kernel, and no others"
    now = time.time()
    for (service, source), end in stored.items():
        if (service, source) not in kernel and end > now + _SOON:
            yield wrong(f"the grant of {service} to {show_source(source)} is not in the kernel: it is kept out", hint)
    for service, source in kernel - set(stored):
        yield wrong(f"the kernel lets {show_source(source)} in to {service}, and the store knows of no grant", hint)


def _in_kernel(rules: Rules, there: list[Saved]) -> set[tuple[str, Source]]:
    if any(ours.has_member_chains(one.text) for one in there):
        return {
            (name, source)
            for one in there
            for name in rules.services
            for source in ours.granted(one.text, from_chain(name))
        }
    names = {set_name(name, version): name for name in rules.services for version in (4, 6)}
    words = (line.split() for line in tools.run(["ipset", "save"]).splitlines())
    return {(names[one[1]], ip_network(one[2])) for one in words if one[0] == "add" and one[1] in names}
