"""What is written to make our part of the kernel what it was."""

from __future__ import annotations

from ipaddress import ip_network

from gatekeeper.firewall import putback
from gatekeeper.firewall.putback import Set

OPTIONS = "hash:net family inet hashsize 1024 maxelem 1048576 timeout 0"
SAVED = (
    f"create gatekeeper-4-ssh {OPTIONS}\nadd gatekeeper-4-ssh 192.0.2.1 timeout 100\n"
    "add gatekeeper-4-ssh 192.0.2.2 timeout 0\nadd gatekeeper-4-ssh 198.51.100.0/24 timeout 9\n"
    f"create gatekeeper-a4-ssh {OPTIONS}\nadd gatekeeper-a4-ssh 10.0.0.0/8 timeout 0\n"
    f"create gatekeeper-t4-ssh {OPTIONS}\nadd gatekeeper-t4-ssh 10.0.0.0/8 timeout 0\n"
    "create theirs hash:ip family inet\nadd theirs 10.9.9.9\n"
)
BEFORE = (
    "*mangle\n:INPUT ACCEPT [0:0]\n:GKEEPER-IN - [0:0]\n:GKEEPER-SRC-ssh - [0:0]\n"
    "-A INPUT -s 10.0.0.1/32 -j DROP\n-A INPUT -j GKEEPER-IN\n-A INPUT -s 10.0.0.2/32 -j DROP\n"
    "-A INPUT -g GKEEPER-ECHO\n"
    "-A GKEEPER-IN -g GKEEPER-SRC-ssh\n-A GKEEPER-SRC-ssh -s 192.0.2.1/32 -g GKEEPER-PASS\n"
    "-A GKEEPER-SRC-ssh -j NFQUEUE --queue-num 6220\nCOMMIT\n"
)
NOTHING = "*mangle\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.1/32 -j DROP\n-A INPUT -s 10.0.0.2/32 -j DROP\nCOMMIT\n"


def test_our_sets_are_read_with_what_is_left_of_their_timeouts() -> None:
    """And not those of others, nor one that was just being filled."""
    sets = putback.read_sets(SAVED)
    assert list(sets) == ["gatekeeper-4-ssh", "gatekeeper-a4-ssh"]
    left = putback.left_after(sets, 9.0)
    assert left["gatekeeper-4-ssh"] == Set(OPTIONS, {"192.0.2.1": 91, "192.0.2.2": 0})
    assert left["gatekeeper-a4-ssh"].members == {"10.0.0.0/8": 0}


def test_a_set_is_swapped_in_or_takes_its_name() -> None:
    text = putback.sets_text({"gatekeeper-4-ssh": Set(OPTIONS, {"192.0.2.1": 91})}, set())
    fresh = "gatekeeper-t4-ssh"
    filled = f"create {fresh} {OPTIONS}\nadd {fresh} 192.0.2.1 timeout 91\n"
    assert text == f"{filled}rename {fresh} gatekeeper-4-ssh\n"
    text = putback.sets_text(
        {"gatekeeper-4-ssh": Set(OPTIONS, {"192.0.2.1": 91})}, {"gatekeeper-4-ssh", "gatekeeper-t4-ssh"}
    )
    assert text == f"destroy {fresh}\n{filled}swap {fresh} gatekeeper-4-ssh\ndestroy {fresh}\n"


def test_what_was_closed_is_known_whichever_way_grants_are_written() -> None:
    """A grant that was seen and is gone; but not one whose time was up, or whose service is."""
    seen = putback.granted(putback.read_sets(SAVED), [], longer_than=20.0)
    now = putback.granted({}, [BEFORE])
    closed = putback.closed(seen, now)
    assert closed == {("ssh", ip_network("192.0.2.2"))}
    assert putback.closed(seen, {}) == frozenset()
    kept = putback.sets_without(putback.read_sets(SAVED), closed)
    assert set(kept["gatekeeper-4-ssh"].members) == {"192.0.2.1", "198.51.100.0/24"}
    assert "192.0.2.1" not in putback.table_without(BEFORE, {("ssh", ip_network("192.0.2.1"))})
    assert putback.table_without(BEFORE, closed) == BEFORE


def test_jumps_come_back_to_their_places_among_foreign_rules() -> None:
    assert putback.tables_text({"mangle": BEFORE}, {"mangle": NOTHING}) == (
        "*mangle\n:GKEEPER-IN - [0:0]\n:GKEEPER-SRC-ssh - [0:0]\n"
        "-A GKEEPER-IN -g GKEEPER-SRC-ssh\n-A GKEEPER-SRC-ssh -s 192.0.2.1/32 -g GKEEPER-PASS\n"
        "-A GKEEPER-SRC-ssh -j NFQUEUE --queue-num 6220\n"
        "-I INPUT 2 -j GKEEPER-IN\n-I INPUT 4 -g GKEEPER-ECHO\nCOMMIT\n"
    )
    fewer = NOTHING.replace("-A INPUT -s 10.0.0.1/32 -j DROP\n-A INPUT -s 10.0.0.2/32 -j DROP\n", "")
    assert "-I INPUT 1 -j GKEEPER-IN\n-I INPUT 2 -g GKEEPER-ECHO\n" in putback.tables_text(
        {"mangle": BEFORE}, {"mangle": fewer}
    )


def test_where_nothing_was_nothing_is_left() -> None:
    assert putback.tables_text({"mangle": NOTHING}, {"mangle": BEFORE, "raw": NOTHING}) == (
        "*mangle\n-D INPUT -j GKEEPER-IN\n-D INPUT -g GKEEPER-ECHO\n-F GKEEPER-IN\n-F GKEEPER-SRC-ssh\n"
        "-X GKEEPER-IN\n-X GKEEPER-SRC-ssh\nCOMMIT\n"
    )
    assert putback.tables_text({"mangle": NOTHING}, {"mangle": NOTHING}) == ""


def test_who_was_counted_is_no_riddle() -> None:
    """A set that counts says how much behind the timeout of each member; sets of moments come back empty or full."""
    counted = "add gatekeeper-b4 192.0.2.1 timeout 1 packets 3 bytes 432\n"
    sets = putback.read_sets(f"create gatekeeper-b4 hash:ip family inet timeout 2 counters\n{counted}")
    assert sets["gatekeeper-b4"].members == {"192.0.2.1": 1}
