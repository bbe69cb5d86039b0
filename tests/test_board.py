from __future__ import annotations

from ipaddress import ip_address, ip_network

from gatekeeper.board import MOST, SIZE, Board

NEAR, WIDE = ip_network("192.0.2.7"), ip_network("2001:db8:c::/64")


def boards(count: int = 2) -> tuple[bytearray, list[Board]]:
    memory = bytearray(SIZE)
    return memory, [Board(memory, worker) for worker in range(count)]


def test_what_one_worker_posts_the_others_see() -> None:
    _, (one, other) = boards()
    assert other.is_empty()
    one.post([NEAR, WIDE])
    assert not other.is_empty()
    assert [other.has(ip_address(address)) for address in ("192.0.2.7", "2001:db8:c::9")] == [True, True]
    assert [other.has(ip_address(address)) for address in ("192.0.2.8", "2001:db8:d::9")] == [False, False]


def test_what_is_over_is_taken_down_and_nobody_elses() -> None:
    _, (one, other) = boards()
    one.post([NEAR])
    other.post([WIDE])
    one.post([])
    assert not other.has(ip_address("192.0.2.7"))
    assert one.has(ip_address("2001:db8:c::1"))


def test_with_more_than_can_be_told_it_may_be_anybody() -> None:
    _, boards_of_all = boards(16)
    last = boards_of_all[-1]
    last.post([ip_network(f"198.18.0.{n}") for n in range(MOST)])
    assert boards_of_all[0].has(ip_address(f"198.18.0.{MOST - 1}"))
    assert not boards_of_all[0].has(ip_address("203.0.113.1"))
    last.post([NEAR] * (MOST + 1))
    assert boards_of_all[0].has(ip_address("203.0.113.1"))


def test_what_is_half_written_or_nonsense_is_no_failure() -> None:
    memory, (one, other) = boards()
    one.post([NEAR] * MOST)
    memory[16:] = b"\xff" * (SIZE - 16)
    assert not other.has(ip_address("192.0.2.7"))
