"""What the doctor looks at, each thing once: the rules, and everybody's rules in the kernel. Changes nothing.

Tools that list rules make the kernel load the modules that hold them, so they are not asked where the module is not
loaded: then there are no such rules. And iptables-legacy-save is asked only for tables that are there, for it would
create the others.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gatekeeper import rules
from gatekeeper.doctor import modules, nft, saved
from gatekeeper.doctor.finding import CannotLookError
from gatekeeper.doctor.walk import Chains, Rule
from gatekeeper.errors import FirewallError
from gatekeeper.firewall import saved as ours
from gatekeeper.firewall import tools
from gatekeeper.firewall.names import CHAIN_PREFIX
from gatekeeper.firewall.netlink import NETFILTER, NETFILTER_HEADER_SIZE, Netlink, attributes, netfilter_header
from gatekeeper.problems import Problem, RulesError
from gatekeeper.settings import Rules

MANGLE = -150
"""The priority of the mangle table (linux/netfilter_ipv4.h, nf_ip_hook_priorities)."""
_PRIORITIES = {"raw": -300, "mangle": MANGLE, "nat": -100, "filter": 0, "security": 50}
_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output"}
_TOOL = {4: "iptables", 6: "ip6tables"}
_LEGACY_TABLES = {4: "/proc/net/ip_tables_names", 6: "/proc/net/ip6_tables_names"}
_GET_TABLE, _TABLE_NAME = 10 << 8 | 1, 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE; NFTA_TABLE_NAME


@dataclass(frozen=True, slots=True)
class Saved:
    """All tables of one variant of iptables, for one IP version."""

    variant: str
    version: int
    text: str
    tables: dict[str, Chains]

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{_TOOL[self.version]} ({self.variant})"

    @property
    def has_ours(self) -> bool:
        """Whether there are chains of ours."""
        return bool(ours.our_chains(self.text))


@dataclass(frozen=True, slots=True)
class Hooked:
    """Rules that packets go through at a hook of the kernel's."""

    owner: str
    """The tool that shows them, and what it calls their table."""
    versions: tuple[int, ...]
    hook: str
    priority: int
    chains: Chains
    start: str

    def shown(self, rule: Rule) -> str:
        """Write a rule so that it can be found."""
        return f"{self.tool} {rule.text}" if self.is_nft else f"{self.owner} {rule.text}"

    @property
    def is_nft(self) -> bool:
        """Whether it is a table of nftables that iptables does not show."""
        return self.owner.startswith("nft ")

    @property
    def tool(self) -> str:
        """Who shows them."""
        return self.owner.split()[0]


class Scene:
    """This machine, as one run of the doctor sees it."""

    def __init__(self, rules_file: Path, state_dir: Path) -> None:
        """Read the rules; that they cannot be used is something to find, and no error."""
        self.rules_file, self.state_dir = rules_file, state_dir
        self.is_root = os.geteuid() == 0
        self.now = time.time()
        self.rules: Rules | None = None
        self.problems: list[Problem] = []
        self.rules_error: RulesError | None = None
        self.rules_paths: tuple[Path, ...] = (rules_file,)
        """The rules file, those that it includes, and their folder."""
        try:
            read = rules.read(rules_file)
            self.rules, self.problems = read.rules, read.problems
            self.rules_paths = (*read.files, *([] if read.folder is None else [read.folder]))
        except RulesError as error:
            self.rules_error, self.problems = error, error.problems

    @cached_property
    def facts(self) -> modules.Facts:
        """What the kernel has."""
        return modules.gather()

    @cached_property
    def saved(self) -> list[Saved]:
        """Everything that both variants of iptables have, for both IP versions.

        Raises:
            FirewallError: a tool is missing, or we may not look.
            CannotLookError: we may not look.
        """
        found = []
        for variant in tools.installed_variants():
            for version in tools.ip_versions():
                text = self._save(variant.variant, version)
                found.append(Saved(variant.variant, version, text, saved.parse(text)))
        return found

    def _save(self, variant: str, version: int) -> str:
        tool = f"{_TOOL[version]}-{variant}-save"
        if tools.find(tool) is None:
            tool = f"{_TOOL[version]}-save"
        if variant == "legacy":
            return "".join(tools.run([tool, "-t", table]) for table in legacy_tables(version))
        if not self.may_have_nftables:
            return ""
        return tools.run([tool])

    @property
    def may_have_nftables(self) -> bool:
        """Whether there can be rules of nftables: not if it is a module that nobody has loaded."""
        state = self.facts.state("nf_tables", "NF_TABLES")
        return state not in (modules.State.LOADABLE, modules.State.ABSENT)

    @cached_property
    def ours(self) -> list[Saved]:
        """Those that have chains of ours. Raises as ``saved``."""
        return [one for one in self.saved if one.has_ours]

    def look_again(self) -> list[Saved]:
        """Forget what iptables said, and return what of ours there is now. Raises as ``saved``."""
        del self.saved, self.ours
        return self.ours

    def wanted_variant(self) -> str | None:
        """Return the variant that `run` would load, or that has ours; ``None`` if that cannot be told."""
        try:
            setting = "auto" if self.rules is None else self.rules.firewall.variant
            return tools.choose(setting).variant
        except FirewallError:
            return None

    @cached_property
    def tables(self) -> list[nft.Table]:
        """The tables of nftables that iptables does not show.

        Raises:
            CannotLookError: nft is not installed, or we may not look.
        """
        if not self.may_have_nftables:
            return []
        if tools.find("nft") is None:
            names = _foreign_nftables()
            if names:
                raise CannotLookError(f"only nft can show what is in {', '.join(names)}, and it is not installed")
            return []
        try:
            return nft.parse(tools.run(["nft", "-j", "list", "ruleset"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CannotLookError(f"nft printed what cannot be read: {error!r}") from error

    def hooks(self) -> Iterator[Hooked]:
        """Everybody's rules where packets arrive and leave. Raises as ``saved``; ``tables`` that fail are left out."""
        for one in self.saved:
            for table, chains in one.tables.items():
                for start, hook in _HOOKS.items():
                    if start in chains:
                        owner = f"{one.name} -t {table}"
                        yield Hooked(owner, (one.version,), hook, _PRIORITIES.get(table, 0), chains, start)
        try:
            tables = self.tables
        except (CannotLookError, FirewallError):
            return  # the check of nftables says so
        for its in tables:
            for base in its.bases:
                owner = f"nft {its.family} {its.name}"
                yield Hooked(owner, its.versions, base.hook, base.priority, its.chains, base.chain)

    def foreign_rules(self) -> Iterator[tuple[str, Rule]]:
        """Every rule that is not in a chain of ours, with whose it is. Raises as ``hooks``."""
        for one in self.saved:
            for table, chains in one.tables.items():
                for name, chain in chains.items():
                    if not name.startswith(CHAIN_PREFIX):
                        yield from ((f"{one.name} -t {table} {rule.text}", rule) for rule in chain.rules)
        try:
            tables = self.tables
        except (CannotLookError, FirewallError):
            return
        for its in tables:
            for chain in its.chains.values():
                yield from ((f"nft {rule.text}", rule) for rule in chain.rules)


def legacy_tables(version: int) -> list[str]:
    """Name the tables that iptables-legacy has in this network namespace.

    Raises:
        CannotLookError: we may not look.
    """
    try:
        return Path(_LEGACY_TABLES[version]).read_text().split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CannotLookError(f"{_LEGACY_TABLES[version]}: {error.strerror}", needs_root=True) from error


def read(path: str | Path) -> str | None:
    """Read a small file; ``None`` if there is none.

    Raises:
        CannotLookError: we may not look.
    """
    try:
        return Path(path).read_text(errors="backslashreplace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise CannotLookError(f"{path}: {error.strerror}", needs_root=True) from error
    except OSError as error:
        raise CannotLookError(f"{path}: {error.strerror}") from error


def _foreign_nftables() -> list[str]:
    """Name the tables of nftables that iptables does not show (linux/netfilter/nf_tables.h)."""
    with Netlink(NETFILTER) as netlink:
        answers = netlink.dump(_GET_TABLE, netfilter_header(socket.AF_UNSPEC))
    found = []
    for answer in answers:
        family = nft.FAMILIES.get(answer[0], str(answer[0]))
        name = attributes(answer[NETFILTER_HEADER_SIZE:])[_TABLE_NAME].rstrip(b"\0").decode("ascii", "backslashreplace")
        if not nft.is_of_iptables(family, name):
            found.append(f"{family} {name}")
    return found


def commands() -> list[str]:
    """Name the programs that run on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            found.append(path.read_text().strip())
        except OSError:
            continue  # it has ended
    return found
