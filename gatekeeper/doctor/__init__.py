"""``gatekeeper doctor``: looks at everything that can keep a door open, or shut, and changes nothing.

Each check stands for itself: one that cannot look says so, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gatekeeper import progress
from gatekeeper.doctor import (
    clock,
    files,
    grants,
    kernel,
    neighbours,
    others,
    placed,
    queue,
    services,
    session,
    versions,
)
from gatekeeper.doctor.finding import AS_ROOT, CannotLookError, Finding, unknown
from gatekeeper.doctor.report import Findings
from gatekeeper.doctor.scene import Scene
from gatekeeper.errors import GatekeeperError


class Check(NamedTuple):
    """Where its findings go, what it looks at, and how."""

    area: str
    what: str
    look: Callable[[Scene], Iterator[Finding]]
    needs_rules: bool = False


CHECKS = (
    Check("rules", "the rules file", files.rules),
    Check("rules", "the clients", services.clients, needs_rules=True),
    Check("run", "whether `gatekeeper run` is up, and its queue", queue.check),
    Check("ruleset", "whether the ruleset is in the kernel", placed.check),
    Check("ruleset", "whom the kernel lets in", grants.check, needs_rules=True),
    Check("other rules", "rules in front of gatekeeper's", others.front, needs_rules=True),
    Check("other rules", "translations of addresses and ports", others.diverted, needs_rules=True),
    Check("other rules", "what drops knocks", others.eaten, needs_rules=True),
    Check("other rules", "marks and queues of others", others.marks, needs_rules=True),
    Check("other rules", "the host's own firewall", others.behind, needs_rules=True),
    Check("other rules", "rules of nftables", others.nftables),
    Check("services", "what listens", services.listeners, needs_rules=True),
    Check("files", "the state directory", files.state),
    Check("clock", "the clock", clock.check),
    Check("this session", "this session", session.check),
    Check("kernel", "what the kernel has", kernel.check),
    Check("kernel", "connection tracking", queue.tracking),
    Check("neighbours", "who else changes the firewall", neighbours.running),
    Check("boot", "systemd's units", neighbours.units),
    Check("boot", "rulesets that are loaded at boot", neighbours.saved_rulesets),
    Check("versions", "versions", versions.check),
)


def examine(rules_file: Path, state_dir: Path) -> Findings:
    """Look at everything; return the findings by area."""
    scene = Scene(rules_file, state_dir)
    found: dict[str, list[Finding]] = {}
    passed_over: dict[str, list[str]] = {}
    with progress.waiting("looking around"):
        for check in CHECKS:
            findings = found.setdefault(check.area, [])
            if check.needs_rules and scene.rules is None:
                passed_over.setdefault(check.area, []).append(check.what)
            else:
                findings.extend(_findings(check, scene))
    for area, whats in passed_over.items():
        words = f"without the rules file these were not looked at: {', '.join(whats)}"
        found[area].append(unknown(words, "" if scene.is_root else AS_ROOT))
    return found


def _findings(check: Check, scene: Scene) -> Iterator[Finding]:
    """Make a finding also of what keeps a check from looking."""
    try:
        yield from check.look(scene)
    except CannotLookError as error:
        hint = AS_ROOT if error.needs_root and not scene.is_root else ""
        yield _unseen(check, error.message, hint)
    except GatekeeperError as error:
        yield _unseen(check, error.message, (error.hint or "") if scene.is_root else AS_ROOT)
    except OSError as error:
        hint = AS_ROOT if isinstance(error, PermissionError) and not scene.is_root else ""
        yield _unseen(check, str(error), hint)
    except Exception as error:  # noqa: BLE001  (the other checks may find what is wrong)
        yield _unseen(check, repr(error), "this is a bug in gatekeeper; please report it")


def _unseen(check: Check, why: str, hint: str) -> Finding:
    needs_root = ": needs root" if hint == AS_ROOT else ""
    return unknown(f"{check.what} could not be looked at{needs_root}", hint, detail=why)
