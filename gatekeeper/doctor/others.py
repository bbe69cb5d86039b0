"""What other people's rules do to the packets that gatekeeper looks at, before it and behind it.

A verdict ACCEPT ends a table of one variant of iptables, or a base chain of nftables, and no more: so it takes
packets past gatekeeper only in the very table where gatekeeper hangs, in front of its jump.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from gatekeeper import steps
from gatekeeper.doctor.finding import AS_ROOT, CannotLookError, Finding, note, ok, unknown, warning, wrong
from gatekeeper.doctor.marks import Touch, touch
from gatekeeper.doctor.scene import MANGLE, Hooked, Scene
from gatekeeper.doctor.walk import Probe, Step, TooLongError, walk
from gatekeeper.errors import FirewallError
from gatekeeper.firewall import lanes
from gatekeeper.firewall import saved as ours
from gatekeeper.firewall.names import CHAIN_PREFIX
from gatekeeper.settings import Ports, Rules, Service, Transport, Via

_MANY = 6
"""Findings of one kind that are shown; who has more has one cause for all."""
_MANY_STEPS = 32
"""Ports of sequences that are asked for: what keeps others' packets away keeps most of them away."""
_DIVERTED = frozenset({"DNAT", "REDIRECT", "NETMAP"})
_DROPPED = frozenset({"DROP", "REJECT"})


def front(scene: Scene) -> Iterator[Finding]:
    """Look at what stands in front of our jumps in the mangle table."""
    if scene.rules is None or any(ours.observes(one.text) for one in scene.ours):
        return  # what observes lets everybody pass, and hangs behind everybody's rules
    found: dict[str, Finding] = {}
    guards = False
    for hooked in scene.hooks():
        if hooked.priority != MANGLE or not any(
            rule.target.startswith(CHAIN_PREFIX) for rule in hooked.chains[hooked.start].rules
        ):
            continue
        guards = True
        for service in _services_at(scene.rules, hooked.hook):
            for ports, port in _samples(service):
                for finding in _past_us(hooked, service, ports, port):
                    found.setdefault(finding.detail, finding)
    yield from list(found.values())[:_MANY]
    if guards and not found:
        yield ok("no rule in front of gatekeeper's lets packets past it")


def _past_us(hooked: Hooked, service: Service, ports: Ports, port: int) -> Iterator[Finding]:
    version = hooked.versions[0]
    leaves, forwarded = hooked.hook == "output", hooked.hook == "forward"
    for is_new in (True, False):
        probe = Probe(
            version=version,
            transport=ports.transport,
            port=port,
            is_new=is_new,
            leaves=leaves,
            is_forwarded=forwarded,
        )
        for step in walk(hooked.chains, hooked.start, probe):
            if step.rule is None or step.target.startswith(CHAIN_PREFIX):
                break
            what = f"{ports.transport}/{port} ({service.name})"
            detail = hooked.shown(step.rule)
            if step.target in _DROPPED and step.is_certain and is_new and not leaves:
                hint = "take that rule away, or put it into the filter table: nobody gets in, knock or no knock"
                yield warning(f"a rule in front of gatekeeper's drops what is for {what}", hint, detail=detail)
            elif step.target in {"ACCEPT", "NFQUEUE", "QUEUE", "TPROXY"}:
                yield _bypass(step, what, detail, is_new=is_new and not leaves)


def _bypass(step: Step, what: str, detail: str, *, is_new: bool) -> Finding:
    hint = "take that rule away, or put it behind; restarting `gatekeeper run` puts gatekeeper's own in front again"
    if not is_new:
        words = f"a rule in front of gatekeeper's accepts what belongs to open connections of {what}"
        return warning(f"{words}: a close has one lock less", hint, detail=detail)
    if step.is_certain:
        return wrong(f"a rule in front of gatekeeper's takes what is for {what} past it", hint, detail=detail)
    words = (
        f"a rule in front of gatekeeper's takes some of what is for {what} past it: it reaches the service unknocked"
    )
    return warning(words, f"{hint}; whom it is meant for, name in the rules: always: [NETWORK]", detail=detail)


def diverted(scene: Scene) -> Iterator[Finding]:
    """Look for translations that send a guarded port, or a knock port, elsewhere before gatekeeper sees it."""
    if scene.rules is None:
        return
    found: dict[str, Finding] = {}
    guarded = [
        (f"{ports.transport}/{port} ({service.name})", ports.transport, port)
        for service in scene.rules.services.values()
        if _guard(service) == "input"
        for ports, port in _samples(service)
    ]
    for hooked in _sorted(scene, "prerouting"):
        for version in hooked.versions:
            for what, transport, port in guarded:
                for step in _met(hooked, Probe(version=version, transport=transport, port=port), _DIVERTED):
                    found.setdefault(hooked.shown(step.rule) if step.rule else "", _not_ours(hooked, step, what))
            for where in _knocked_at(scene.rules):
                probe = Probe(version=version, transport=where.transport, port=where.first)
                for step in _met(hooked, probe, _DIVERTED):
                    detail = hooked.shown(step.rule) if step.rule else ""
                    words = f"knocks to {where} are sent elsewhere before gatekeeper sees them"
                    hint = "take that rule away, or choose another port to knock at"
                    found.setdefault(detail, wrong(words, hint, detail=detail))
    yield from list(found.values())[:_MANY]
    if not found:
        yield ok("no guarded port is sent elsewhere (Docker's published ports, DNAT) before gatekeeper sees it")


def _not_ours(hooked: Hooked, step: Step, what: str) -> Finding:
    detail = hooked.shown(step.rule) if step.rule else ""
    hint = (
        "such packets never come to INPUT, where gatekeeper guards: publish the port on 127.0.0.1 only "
        "(docker: -p 127.0.0.1:8080:80), "
        "or take the rule away, or say where the port really is (`guard:` in docs/rules.md)"
    )
    who = "Docker's translation" if "DOCKER" in detail else "a translation"
    some = "" if step.is_certain else "some of "
    return wrong(f"{who} sends {some}what is for {what} elsewhere: that is not guarded", hint, detail=detail)


def eaten(scene: Scene) -> Iterator[Finding]:
    """Look for what drops knocks before gatekeeper sees them, or keeps guarded ports out of connection tracking."""
    if scene.rules is None:
        return
    found: dict[str, Finding] = {}
    for hooked in [*_sorted(scene, "prerouting"), *_sorted(scene, "input")]:
        if hooked.hook == "input" and hooked.priority > MANGLE:
            continue
        for version in hooked.versions:
            for where in _knocked_at(scene.rules):
                probe = Probe(version=version, transport=where.transport, port=where.first)
                for step in _met(hooked, probe, _DROPPED):
                    if step.is_certain:
                        detail = hooked.shown(step.rule) if step.rule else f"{hooked.owner}: the policy"
                        hint = f"let {where} through there, or have the filter table drop it: that comes behind us"
                        words = f"knocks to {where} are dropped before gatekeeper sees them"
                        found.setdefault(detail, wrong(words, hint, detail=detail))
            for finding in _untracked(scene.rules, hooked, version):
                found.setdefault(finding.detail, finding)
    yield from list(found.values())[:_MANY]
    if not found:
        yield ok("nothing drops knocks before gatekeeper sees them")


def _untracked(rules: Rules, hooked: Hooked, version: int) -> Iterator[Finding]:
    for service in rules.services.values():
        for ports, port in _samples(service):
            if ports.transport is not Transport.TCP:
                continue
            for step in _met(hooked, Probe(version=version, transport=ports.transport, port=port), {"CT", "NOTRACK"}):
                if step.rule is None or (step.target == "CT" and "--notrack" not in step.rule.options):
                    continue
                words = f"{ports.transport}/{port} ({service.name}) is kept out of connection tracking"
                hint = "connections do not outlive their grant then, as `established: keep` says: take that rule away"
                yield warning(words, hint, detail=hooked.shown(step.rule))


def behind(scene: Scene) -> Iterator[Finding]:
    """Look whether the host's own firewall, behind gatekeeper, lets those in that were granted."""
    if scene.rules is None:
        return
    hooks = [one for one in _sorted(scene, "input") if one.priority > MANGLE]
    faults: dict[str, Finding] = {}
    for service in scene.rules.services.values():
        if _guard(service) != "input":
            continue
        for ports, port in _samples(service):
            for hooked in hooks:
                for version in hooked.versions:
                    probe = Probe(version=version, transport=ports.transport, port=port)
                    finding = _kept_out(hooked, probe, f"{ports.transport}/{port} ({service.name})")
                    if finding is not None:
                        faults.setdefault(f"{finding.what}{hooked.owner}", finding)
    yield from list(faults.values())[:_MANY]
    if not faults:
        yield ok("the host's own firewall lets in what gatekeeper lets in")


def _kept_out(hooked: Hooked, probe: Probe, what: str) -> Finding | None:
    steps = _walk(hooked, probe)
    if steps[-1].target not in _DROPPED:
        return None
    detail = f"{hooked.owner}: {'the policy' if steps[-1].rule is None else steps[-1].rule.text}"
    if any(step.target == "ACCEPT" for step in steps):
        words = f"the host's own firewall lets only some in to {what}: whoever it keeps out stays out after a knock"
        return note(words, _allow(hooked, probe), detail=detail)
    words = f"the host's own firewall keeps everybody out of {what}, also those who were granted"
    return warning(words, _allow(hooked, probe), detail=detail)


def _allow(hooked: Hooked, probe: Probe) -> str:
    port = f"{probe.port}/{probe.transport}"
    if any(name.startswith(("ufw-", "ufw6-")) for name in hooked.chains):
        return f"ufw allow {port}"
    if "firewalld" in hooked.owner or "INPUT_ZONES" in hooked.chains:
        return f"firewall-cmd --permanent --add-port={port} && firewall-cmd --reload"
    if hooked.is_nft:
        place = f"{hooked.owner.removeprefix('nft ')} {hooked.start}"
        return f"nft insert rule {place} {probe.transport} dport {probe.port} accept"
    tool = "iptables" if probe.version == 4 else "ip6tables"
    return f"{tool} -I INPUT -p {probe.transport} --dport {probe.port} -j ACCEPT (it is still closed to strangers)"


def marks(scene: Scene) -> Iterator[Finding]:
    """Look for rules of others that touch our mark, or use our queue."""
    if scene.rules is None:
        return
    mark, queues = scene.rules.firewall.mark, lanes.all_numbers(scene.rules)
    found: list[Finding] = []
    choose = (
        f"choose a bit that nobody uses: firewall: {{mark: 0x...}} in the rules (now {mark:#x}); or limit their mask"
    )
    for text, rule in scene.foreign_rules():
        options = rule.options
        if rule.target == "NFQUEUE" and (meant := [number for number in queues if _queues(options, number)]):
            hint = "choose other queues in the rules: firewall: {queue: N}"
            words = f"a rule that is not gatekeeper's sends packets to its queue {meant[0]}"
            found.append(wrong(words, hint, detail=text))
        how = touch(rule, mark)
        if how is Touch.SETS:
            words = "a rule that is not gatekeeper's sets its mark: whoever meets it is let in without a knock"
            found.append(wrong(words, choose, detail=text))
        elif how in (Touch.CLEARS, Touch.COPIES):
            words = "a rule that is not gatekeeper's overwrites its mark: connections do not outlive their grant"
            found.append(warning(words, choose, detail=text))
        elif how is Touch.ON_PACKETS and Via.SYN in scene.rules.via:
            words = "a rule that is not gatekeeper's sets its mark on packets: knocks in SYNs are not looked at"
            found.append(warning(words, choose, detail=text))
    yield from found[:_MANY]
    if not found:
        yield ok(f"nobody else uses the queues from {queues[0]} on, or touches the mark {mark:#x}")


def _queues(options: tuple[str, ...], queue: int) -> bool:
    """Whether packets go to a queue; a balance names several, from one to another."""
    for name, value in pairwise(options):
        if name == "--queue-num" and value.isdigit() and int(value) == queue:
            return True
        if name == "--queue-balance":
            first, _, last = value.partition(":")
            return first.isdigit() and last.isdigit() and int(first) <= queue <= int(last)
    return False


def nftables(scene: Scene) -> Iterator[Finding]:
    """Say which tables of nftables there are besides iptables' own."""
    try:
        tables = scene.tables
    except (CannotLookError, FirewallError) as error:
        needs = "" if scene.is_root else ": needs root"
        hint = "apt-get install nftables" if scene.is_root else AS_ROOT
        yield unknown(f"rules of nftables could not be looked at{needs}", hint, detail=error.message)
        return
    for table in tables:
        if table.bases:
            places = ", ".join(f"{base.hook} {base.priority}" for base in table.bases)
            yield ok(f"nftables: {table.family} {table.name} ({places})")
    if not tables:
        yield ok("nftables: no tables besides iptables' own")


def _sorted(scene: Scene, hook: str) -> list[Hooked]:
    return sorted((one for one in scene.hooks() if one.hook == hook), key=lambda one: one.priority)


def _met(hooked: Hooked, probe: Probe, targets: Iterable[str]) -> list[Step]:
    return [step for step in _walk(hooked, probe) if step.target in targets]


def _walk(hooked: Hooked, probe: Probe) -> list[Step]:
    try:
        return walk(hooked.chains, hooked.start, probe)
    except TooLongError:
        raise CannotLookError(f"{hooked.owner}: there are too many rules to follow") from None


def _guard(service: Service) -> str:
    return service.guard.value


def _services_at(rules: Rules, hook: str) -> list[Service]:
    """Name the services that are guarded at a hook."""
    here = {"prerouting": "published", "forward": "forward"}.get(hook, "input")
    return [service for service in rules.services.values() if _guard(service) == here]


def _samples(service: Service) -> Iterator[tuple[Ports, int]]:
    """Name ports to ask for: of a range, its ends."""
    for ports in service.ports:
        for port in dict.fromkeys((ports.first, ports.last)):
            yield ports, port


def _knocked_at(rules: Rules) -> list[Ports]:
    """Name the ports that knocks come to: knock ports, and some of those of sequences."""
    knock_ports = [Ports(Transport.UDP, port) for port in rules.knock_ports] if Via.UDP in rules.via else []
    listened = [port for one in steps.every(rules) for port in one.ports]
    return [*knock_ports, *list(dict.fromkeys(listened))[:_MANY_STEPS]]
