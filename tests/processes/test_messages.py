"""What worker and keeper say to each other."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper import replay
from gatekeeper.model import Admit, Floor, Grant, Reason, Revoke, Stamp
from gatekeeper.processes import link, messages
from gatekeeper.processes.messages import Changed, ClockStepped, Counts, Do, Done, Floors, Grants, Message, Senders

V4 = Grant(ip_network("198.51.100.2/32"), "ssh", "laptop", 1_700_000_000.25)
V6 = Grant(ip_network("2001:db8::/64"), "web", "(admin)", None)
STAMP = Stamp(bytes(range(32)), 1_700_000_000_123_456_789)
ONCE = Stamp(bytes(range(32)), 0, once=True)

EXAMPLES: list[Message] = [
    Do(7, Admit((V4, V6), STAMP), Reason.OPENED, "laptop"),
    Do(7, Admit((V4,), ONCE), Reason.OPENED, "laptop"),
    Do(7, Admit((V4,), Stamp(bytes(32), 1, 241 * 10**9)), Reason.OPENED, "laptop"),
    Do(8, Admit(()), Reason.OPENED, "laptop", "a note"),
    Do(9, Revoke(V6.source, "laptop", ("ssh", "web"), STAMP), Reason.CLOSED, "laptop"),
    Do(10, Revoke(V4.source), Reason.CLOSED, None),
    Done(7, went_well=True),
    Done(8, went_well=False),
    Grants((V4,), more=True),
    Grants(()),
    Changed((V4,), (V6,)),
    Floors(5, {STAMP.key: Floor(3, 4, (5, 6))}),
    Counts({"no-grant": 12}),
    Senders({(bytes(4), "no-grant"): 3, (bytes(8), "would-replayed"): 1}),
    ClockStepped(),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda one: type(one).__name__)
def test_what_is_written_is_read_as_the_same(message: Message) -> None:
    assert messages.decode(messages.encode(message)) == message


@given(st.binary() | st.text().map(str.encode))
def test_what_is_no_message_raises_an_error_that_says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        messages.decode(data)


@pytest.mark.parametrize(
    "data", [b'["Do",1]', b'["Done"]', b"[]", b"{}", b'["Grants",[["x","ssh","a",1]],false]', b'["__import__","os"]']
)
def test_a_message_with_the_wrong_parts_is_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        messages.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b'["Do",1,["admit",[["192.0.2.1/32","ssh","a",%s]],null],"opened","a",null]' % end
        for end in (b"Infinity", b"NaN", b'"never"', b"1e99", b"true", b"[]")
    ]
    + [
        b'["Do",1,["admit",[["192.0.2.1/32",["ssh"],"a",1]],null],"opened","a",null]',
        b'["Do",1,["admit",[["192.0.2.1/32","ssh","\\ud800",1]],null],"opened","a",null]',
        b'["Do",1,["admit",[],["00",1%s,1]],"opened","a",null]' % (b"0" * 30),
        b'["Do",1,["admit",[],["00",1]],"opened","a",null]',
        b'["Do",1,["admit",[],["00",1,-1]],"opened","a",null]',
        b'["Do",1,["admit",[],["00",1,1%s]],"opened","a",null]' % (b"0" * 12),
        b'["Do",1,["revoke",["192.0.2.1/32","a",[5]],null],"closed","a",null]',
        b'["Do",[1],["admit",[],null],"opened","a",null]',
        b'["Counts",5]',
        b'["Senders",[["00000000","no-grant",0]]]',
        b'["Senders",[["00000000","no-grant",1e3]]]',
        b'["Senders",[["00000000","anything",1]]]',
        b'["Senders",[["00000000",null,1]]]',
        b'["Senders",[["0000","no-grant",1]]]',
        b'["Senders",[["x","no-grant",1]]]',
        b'["Senders",[%s]]' % b",".join(b'["%08x","no-grant",1]' % number for number in range(65)),
        b'["Counts",{"x":1%s}]' % (b"0" * 30),
        b'["Counts",{"x":"y"}]',
        b'["Counts",{"%s":1}]' % (b"x" * 61),
        b'["Counts",{%s}]' % b",".join(b'"%d":1' % number for number in range(101)),
    ],
)
def test_values_that_would_end_the_keeper_or_stay_in_its_store_are_no_message(data: bytes) -> None:
    """Whoever has taken over a worker may say anything."""
    with pytest.raises(ValueError, match="not a message"):
        messages.decode(data)


def test_many_grants_come_in_parts_that_fit_a_socket_and_the_last_says_so() -> None:
    grants = [Grant(ip_network(f"2001:db8::{number:x}"), "a-long-service-1", "x" * 64, 1e9) for number in range(2300)]
    parts = list(messages.all_grants(grants))
    assert [grant for part in parts for grant in part.grants] == grants
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert max(len(messages.encode(part)) for part in parts) < 100_000


def test_floors_with_many_stamps_come_in_parts_likewise() -> None:
    floors = {bytes([number] * 32): Floor(number, 0, tuple(range(10**18, 10**18 + 256))) for number in range(55)}
    parts = list(messages.all_floors(1, floors))
    assert {key: floor for part in parts for key, floor in part.floors.items()} == floors
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert max(len(messages.encode(part)) for part in parts) < 100_000
    assert list(messages.all_floors(1, {})) == [Floors(1, {})]


def test_many_changes_are_told_in_few_messages_and_in_their_order() -> None:
    """One by one, a hundred thousand ends were more than a wire holds: the worker at its other end was given up."""
    grants = [Grant(ip_network((0x0A000000 + number, 32)), "ssh", "laptop", 2e9) for number in range(100_000)]
    some, last = grants[:3], Done(7, went_well=True)
    said: list[Message] = [Changed(ended=(one,)) for one in grants]
    said += [last, *(Changed(admitted=(one,)) for one in some), Changed(ended=(some[0],))]
    told = list(messages.gathered(said))
    assert len(told) < 210
    assert [grant for one in told[:-3] if isinstance(one, Changed) for grant in one.ended] == grants
    assert told[-3:] == [last, Changed(admitted=tuple(some)), Changed(ended=(some[0],))]


def test_floors_with_the_most_stamps_that_there_can_be_fit_as_well() -> None:
    most = tuple(range(10**18, 10**18 + replay.MOST))
    floors = {bytes([number] * 32): Floor(number, 0, most if number % 2 else ()) for number in range(9)}
    parts = list(messages.all_floors(1, floors))
    assert {key: floor for part in parts for key, floor in part.floors.items()} == floors
    assert max(len(messages.encode(part)) for part in parts) < link._LONGEST
