"""What should be there is read from the text that is loaded; what differs from it is a fault, and nothing else is."""

from __future__ import annotations

import pytest

from gatekeeper.firewall import expected, ruleset
from gatekeeper.firewall.expected import Expected
from gatekeeper.firewall.looks import Found, Look, Place
from gatekeeper.firewall.members import Members, RuleMembers, SetMembers
from gatekeeper.firewall.names import ECHO, IN, OUT, PASS, RAW, VERSIONS
from gatekeeper.settings import Mode, Ports, Rules, Service, Transport, Via

INPUT = ("mangle", "INPUT")
FOREIGN = Found(b"-s 203.0.113.9 -j DROP", "DROP", has_match=True)


def made(*, mode: Mode = Mode.GUARD, members: Members | None = None) -> tuple[Expected, dict[Place, list[Found]]]:
    """Read a text, and make up what the kernel would have then."""
    services = {"ssh": Service("ssh", (Ports(Transport.TCP, 22),), 60)}
    rules = Rules(services=services, clients={}, mode=mode, via=frozenset({Via.UDP, Via.ICMP}))
    ways = members or SetMembers()
    read = expected.read(ruleset.iptables_text(rules, 4, ways), member_chains=ways.chains("ssh"))
    look = {place: [Found(line.encode(), line.split()[-1]) for line in lines] for place, lines in read.rules.items()}
    for base in read.bases:
        chains = (*read.first.get(base, ()), *read.last.get(base, ()))
        look[base] = [Found(f"-j {chain}".encode(), chain) for chain in chains]
    return read, look


def faults(one: Expected, look: Look) -> list[str]:
    return [fault.words for fault in one.faults(look)]


def test_places_and_numbers_are_read_from_the_text_for_both_ip_versions() -> None:
    for version in VERSIONS:
        text = ruleset.iptables_text(Rules(services={}, clients={}, via=frozenset({Via.ICMP})), version, SetMembers())
        one = expected.read(text)
        assert (one.first[INPUT], one.last[INPUT]) == ([IN], [ECHO])
        assert (one.first["mangle", "OUTPUT"], one.first["raw", "PREROUTING"]) == ([OUT], [RAW])
        assert one.tables == ["mangle", "raw"], "what closes comes first"
        assert len(one.rules["mangle", PASS]) == 2


def test_what_was_learned_is_in_order_and_text_that_did_not_load_is_not_learned() -> None:
    one, look = made()
    assert one.differs(look) is None
    assert faults(one.learned(look), look) == []
    assert "GKEEPER-IN has" in str(one.differs({**look, ("mangle", IN): []}))
    assert one.differs({**look, INPUT: [FOREIGN, *look[INPUT]]}) == "the place of the mangle INPUT jump"


@pytest.mark.parametrize(
    ("mode", "order", "is_right"),
    [
        (Mode.GUARD, "i f e", True),
        (Mode.GUARD, "f i e", False),
        (Mode.GUARD, "i e f", False),
        (Mode.GUARD, "i i e", False),
        (Mode.GUARD, "f e", False),
        (Mode.OBSERVE, "f i e", True),
        (Mode.OBSERVE, "i f e", False),
    ],
)
def test_foreign_rules_may_stand_where_they_do_not_come_between(mode: Mode, order: str, *, is_right: bool) -> None:
    one, look = made(mode=mode)
    names = {"i": look[INPUT][0], "e": look[INPUT][1], "f": FOREIGN}
    found = faults(one.learned(look), {**look, INPUT: [names[letter] for letter in order.split()]})
    assert (found == []) is is_right


@pytest.mark.parametrize("has_match", [True, False])
def test_a_jump_that_is_not_for_every_packet_is_none(*, has_match: bool) -> None:
    one, look = made()
    jump = Found(b"-s 192.0.2.1 -j GKEEPER-IN", IN, has_match=has_match, is_goto=not has_match)
    learned, now = one.learned(look), {**look, INPUT: [jump, look[INPUT][1]]}
    assert faults(learned, now) == ["mangle INPUT jump"]
    assert learned.repair_text(learned.faults(now), now, "mangle") is None, "it cannot be named in iptables' words"


def test_chains_of_members_are_looked_at_by_their_ends_and_by_where_their_rules_lead() -> None:
    one, look = made(members=RuleMembers())
    learned, place = one.learned(look), ("mangle", "GKEEPER-SRC-ssh")
    end = look[place]
    member = Found(b"-s 192.0.2.1 -g GKEEPER-PASS", PASS, is_goto=True, has_match=True)
    for rules, words in {
        (member, *end): [],
        (): ["chain GKEEPER-SRC-ssh"],
        (member,): ["chain GKEEPER-SRC-ssh"],
        (Found(b"", "ACCEPT", has_match=True), *end): ["chain GKEEPER-SRC-ssh"],
        (Found(b"", PASS, is_goto=True), *end): ["chain GKEEPER-SRC-ssh"],
    }.items():
        assert faults(learned, {**look, place: list(rules)}) == words


def test_a_repair_says_what_is_amiss_and_touches_nothing_else() -> None:
    one, look = made()
    learned = one.learned(look)
    chain = ("mangle", "GKEEPER-OUT-ssh")
    now = {**look, INPUT: [FOREIGN, *look[INPUT]], chain: look[chain][1:]}
    found = learned.faults(now)
    text = learned.repair_text(found, now, "mangle") or ""
    lines = text.splitlines()
    assert next(line for line in lines if line.startswith(":")) == ":GKEEPER-OUT-ssh - [0:0]"
    assert [line for line in lines if "INPUT" in line] == [
        *(f"-D INPUT -j {name}" for name in (IN, ECHO)),
        f"-I INPUT 1 -j {IN}",
        f"-A INPUT -j {ECHO}",
    ]
    assert [line for line in lines if line.startswith("-A GKEEPER")] == list(learned.rules[chain])
    assert expected.summed_up(found, learned, 4) == [
        "the place of the mangle INPUT jump (IPv4)",
        "chain GKEEPER-OUT-ssh (IPv4)",
    ]


def test_all_that_is_gone_is_said_in_few_words() -> None:
    one, look = made()
    learned = one.learned(look)
    assert expected.summed_up(learned.faults({}), learned, 6) == [
        "all that is ours in mangle (IPv6)",
        "all that is ours in raw (IPv6)",
    ]


def test_the_protocol_of_a_rule_is_what_its_line_says() -> None:
    assert [expected.protocol(f"-A X {words}-j DROP") for words in ("", "-p tcp ", "! -i lo -p icmp ")] == [0, 6, 1]
