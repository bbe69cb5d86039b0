"""The house stands as docs/architecture.md draws it: floors, no circles, and pure rooms that stay pure."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gatekeeper"

FLOORS: dict[int, tuple[str, ...]] = {
    1: (
        "metrics.requests",
        "budget",
        "colours",
        "sizes",
        "journald",
        "duration",
        "echo",
        "heavy",
        "rates",
        "terminals",
        "errors",
        "screen",
        "garbage",
        "holds",
        "included",
        "networks",
        "notify",
        "older",
        "progress",
        "schedule",
        "units",
        "cli.examples",
        "client.packets",
        "confirm.commands",
        "doctor.finding",
        "doctor.modules",
        "firewall.names",
        "firewall.pressure",
        "fwknop.kinds",
        "fwknop.text",
        "processes.hangup",
        "rules.moment",
        "rules.programs",
        "sealed.primitives",
        "store.owner",
        "store.reserve",
        "migrate.note",
        "escaping",
        "reasons",
        "explain.frames",
        "recording.pcapng",
    ),
    2: (
        "metrics.counter",
        "hand",
        "access",
        "filewatch",
        "replacing",
        "cli.commands",
        "problems",
        "sessions",
        "settings",
        "shadows",
        "status",
        "cli.options",
        "client.addresses",
        "client.bridge",
        "client.folders",
        "client.plain",
        "doctor.report",
        "hooks.rights",
        "firewall.looks",
        "firewall.members",
        "firewall.netlink",
        "firewall.saved",
        "firewall.tools",
        "fwknop.cipher",
        "fwknop.message",
        "processes.confine",
        "sealed.keys",
        "sealed.noise",
        "store.lock",
        "store.ranges",
        "client.fwknoprc",
        "migrate.lines",
        "explain.capture",
        "recording.ring",
        "logs",
    ),
    3: (
        "differences",
        "cli.manpage",
        "guarded",
        "tables",
        "keyfiles",
        "model",
        "steps",
        "stopping",
        "terms",
        "client.profile",
        "client.reach",
        "doctor.walk",
        "firewall.conntrack",
        "firewall.drops",
        "fwknop.access",
        "fwknop.envelope",
        "firewall.expected",
        "firewall.ipset",
        "firewall.lanes",
        "firewall.nfqueue",
        "firewall.nftables",
        "firewall.putback",
        "firewall.sockdiag",
        "firewall.shapes",
        "firewall.tags",
        "firewall.xtables",
        "rules.document",
        "sealed.wire",
        "migrate.access",
        "migrate.names",
    ),
    4: (
        "tallies",
        "rules.metrics",
        "entitled",
        "trails",
        "store.owed",
        "store.trail",
        "allowlist",
        "board",
        "clock",
        "packet",
        "protocols",
        "replay",
        "client.invite",
        "client.stamps",
        "doctor.marks",
        "doctor.nft",
        "doctor.saved",
        "firewall.bounds",
        "firewall.cut",
        "firewall.sets",
        "firewall.snapshot",
        "firewall.watches",
        "knocks.fwknop",
        "knocks.plain",
        "knocks.sealed",
        "knocks.sequence",
        "processes.messages",
        "hooks.telling",
        "rules.edit",
        "rules.include",
        "rules.values",
        "sealed.layer",
        "migrate.command",
        "migrate.draft",
        "migrate.knockd",
        "migrate.stanzakeys",
    ),
    5: (
        "metrics.figures",
        "rules.trail",
        "firewall.dispatch",
        "cuts",
        "gate",
        "inlet",
        "knocks",
        "lately",
        "mending",
        "observe",
        "rejection",
        "client.knocker",
        "confirm.plan",
        "firewall.kernel",
        "firewall.steps",
        "processes.link",
        "processes.shared",
        "hooks.running",
        "rules.fwknop",
        "rules.hooks",
        "rules.sequences",
        "store.grants",
        "store.journal",
        "store.stamps",
        "migrate.doors",
        "migrate.fwknop",
        "migrate.fwknopd",
        "explain.flows",
        "explain.offload",
        "recording.notes",
    ),
    6: (
        "metrics.exposition",
        "answers",
        "enforce",
        "hooks.sender",
        "rules.services",
        "refusals",
        "serverkeys",
        "worker",
        "client.ways",
        "confirm.asking",
        "firewall.ruleset",
        "processes.child",
        "rules.clients",
        "store.schema",
        "client.sequence",
        "client.spa",
        "recording.sender",
    ),
    7: (
        "metrics.render",
        "processes.exporter",
        "processes.places",
        "inforce",
        "commits",
        "confirm.ending",
        "confirm.guard",
        "confirm.probation",
        "firewall.apply",
        "firewall.fallback",
        "rules.schema",
        "store.sqlite",
        "cli.formats",
        "cli.fwknop",
        "explain.judge",
        "processes.hooking",
        "processes.recorder",
    ),
    8: (
        "asked",
        "noting",
        "rules",
        "cli.confirm",
        "firewall.adopt",
        "firewall.guardian",
        "firewall.rulewise",
        "cli.knocking",
        "explain.lines",
    ),
    9: (
        "flushing",
        "dryrun",
        "lockout",
        "reload",
        "cli.client",
        "clientlist",
        "cli.completion",
        "doctor.scene",
        "firewall.backends",
        "migrate.convert",
        "explain",
    ),
    10: (
        "metrics.gather",
        "admin",
        "load",
        "cli.clients",
        "seeing",
        "cli.reload",
        "doctor.clock",
        "doctor.files",
        "doctor.kernel",
        "doctor.neighbours",
        "doctor.others",
        "doctor.placed",
        "doctor.queue",
        "doctor.services",
        "doctor.versions",
        "processes.plan",
        "cli.migrating",
        "cli.explain",
    ),
    11: (
        "processes.meter",
        "cli.log",
        "installing",
        "watching",
        "doctor.grants",
        "processes.guarding",
        "processes.keeper",
        "processes.packets",
    ),
    12: (
        "processes.metering",
        "cli.status",
        "cli.units",
        "doctor.session",
    ),
    13: (
        "processes.staff",
        "doctor",
    ),
    14: (
        "processes.supervisor",
        "cli.doctor",
    ),
    15: ("reloading",),
    16: ("daemon",),
    17: (
        "cli",
        "cli.server",
    ),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
PURE = {
    "cli.examples",
    "tallies",
    "metrics.exposition",
    "metrics.figures",
    "metrics.requests",
    "rules.metrics",
    "rules.trail",
    "sizes",
    "errors",
    "heavy",
    "rates",
    "problems",
    "model",
    "settings",
    "networks",
    "protocols",
    "differences",
    "duration",
    "schedule",
    "store.ranges",
    "packet",
    "rejection",
    "allowlist",
    "board",
    "holds",
    "replay",
    "status",
    "gate",
    "sealed.primitives",
    "sealed.noise",
    "sealed.wire",
    "fwknop.access",
    "fwknop.cipher",
    "fwknop.envelope",
    "fwknop.kinds",
    "fwknop.message",
    "fwknop.text",
    "knocks",
    "knocks.fwknop",
    "knocks.plain",
    "knocks.sealed",
    "knocks.sequence",
    "client.plain",
    "client.packets",
    "firewall.bounds",
    "firewall.dispatch",
    "firewall.drops",
    "firewall.lanes",
    "firewall.names",
    "firewall.shapes",
    "firewall.steps",
    "firewall.tags",
    "firewall.saved",
    "firewall.sets",
    "firewall.members",
    "firewall.ruleset",
    "processes.messages",
    "doctor.finding",
    "doctor.marks",
    "doctor.nft",
    "doctor.report",
    "doctor.saved",
    "doctor.walk",
    "echo",
    "steps",
    "terms",
    "entitled",
    "guarded",
    "shadows",
    "rules.moment",
    "rules.document",
    "rules.values",
    "rules.clients",
    "hooks.telling",
    "rules.edit",
    "rules.fwknop",
    "rules.hooks",
    "rules.include",
    "rules.sequences",
    "rules.services",
    "rules.schema",
    "firewall.fallback",
    "firewall.putback",
    "units",
    "firewall.expected",
    "firewall.looks",
    "mending",
    "migrate.access",
    "migrate.command",
    "migrate.doors",
    "migrate.draft",
    "migrate.fwknop",
    "migrate.fwknopd",
    "migrate.knockd",
    "migrate.lines",
    "migrate.names",
    "migrate.note",
    "migrate.stanzakeys",
    "escaping",
    "explain.flows",
    "explain.frames",
    "explain.judge",
    "explain.lines",
    "explain.offload",
    "reasons",
    "recording.notes",
    "recording.pcapng",
    "older",
}
KEYS = "sealed.keys"
"""Pure but for ``generate``, which asks the operating system for chance; no pure room may call it."""
IMPURE_MODULES = {
    "socket",
    "subprocess",
    "sqlite3",
    "time",
    "random",
    "secrets",
    "os",
    "logging",
    "threading",
    "pathlib",
}
OUTSIDE = {
    "demo",
    "",
    "__main__",
    "firewall",
    "store",
    "sealed",
    "client",
    "processes",
    "confirm",
    "fwknop",
    "migrate",
    "recording",
    "hooks",
    "metrics",
}
"""The demo shows the house from outside; the others are empty faces."""


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _imports(path: Path) -> set[str]:
    """List what a file imports, as module names; also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                below = PACKAGE.parent / Path(*node.module.split("."), alias.name)
                is_module = below.with_suffix(".py").exists() or (below / "__init__.py").exists()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


def _rooms() -> dict[str, Path]:
    rooms = {_name(path): path for path in PACKAGE.rglob("*.py")}
    return {name: path for name, path in rooms.items() if name.split(".")[0] != "demo" and name not in OUTSIDE}


def test_every_room_has_its_floor() -> None:
    assert set(_rooms()) == set(FLOOR)


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_a_room_imports_from_lower_floors_only(room: str) -> None:
    """Which also means that there are no circles."""
    for module in _imports(_rooms()[room]):
        if not module.startswith("gatekeeper."):
            continue
        other = module.removeprefix("gatekeeper.")
        if room == "cli.server" and other.split(".")[0] == "demo":
            continue
        assert FLOOR[other] < FLOOR[room], f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"


@pytest.mark.parametrize("room", sorted(PURE))
def test_a_pure_room_has_no_io_no_clock_and_no_chance(room: str) -> None:
    assert not _imports(_rooms()[room]) & IMPURE_MODULES
    text = _rooms()[room].read_text()
    assert not re.search(r"\.(now|utcnow|today|generate)\(", text), "time and chance come in as arguments"


def test_pure_rooms_import_only_pure_rooms() -> None:
    for room in PURE:
        for module in _imports(_rooms()[room]):
            if module.startswith("gatekeeper."):
                assert module.removeprefix("gatekeeper.") in PURE | {KEYS}, f"{room} imports {module}"


def test_heavy_libraries_are_imported_in_one_room_each() -> None:
    homes = {
        "scapy": {"packet", "sealed.layer", "explain.capture"},
        "netfilterqueue": {"worker", "inlet"},
        "yaml": {
            "rules.document",
            "rules.edit",
            "rules.include",
            "rules.values",
            "rules.schema",
            "rules.services",
            "rules.hooks",
            "rules.clients",
            "rules.sequences",
        },
        "segno": {"cli.server"},
        "shtab": {"cli.completion"},
        "prometheus_client": {"metrics.render"},
        "rich": {"progress", "tables", "screen", "cli.status"},
    }
    for library, expected in homes.items():
        found = {
            room for room, path in _rooms().items() for module in _imports(path) if module.split(".")[0] == library
        }
        assert found == expected


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=_name)
def test_every_file_opens_with_its_contract(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} does not say what it is"


def test_no_command_goes_through_a_shell() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "shell=True" not in text, path
        assert "os.system" not in text, path
        assert "os.popen" not in text, path
