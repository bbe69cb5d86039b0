"""Sealed knocks on the real kernel: they open at the first SYN, once, for whom they name, and for nobody else."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.sealed import keys, wire
from gatekeeper.store.sqlite import FILE
from tests.netns.device import Device, forge, rules_for, send, server_key
from tests.netns.site import CLIENT, SERVER, SSH, STRANGER, Site, wait_until

SPARE = {4: "198.18.7.7", 6: "2001:db8:cc::77"}
"""An address of MANY, which the server routes to the client."""
WARPED = str(Path(__file__).with_name("warped.py"))


def start(site: Site, fields: str = "services: [ssh, web]") -> tuple[Gatekeeper, Device]:
    """Run a server that knows one client, "laptop"; return it and the client's device."""
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, {fields}}}"))
    return site.run(), device


def refused(running: Gatekeeper, reason: str, *, times: int = 1) -> None:
    """Wait until the log has refusals for a reason."""
    wait_until(lambda: running.log.count(f"refused reason={reason}") >= times)
    assert running.log.count(f"refused reason={reason}") == times, running.log


def granted(site: Site, version: int, service: str = "ssh") -> list[str]:
    return sorted(site.members(service, version))


@pytest.mark.timing
@pytest.mark.parametrize("rps", [False, True], ids=["one-cpu", "rps"])
def test_the_client_never_waits(site: Site, version: int, rps: bool) -> None:
    """Fifty knocks, each with a connect right behind it: not one SYN is sent twice."""
    if rps:
        site.spread_packets_over_two_cpus()
    running, device = start(site)
    site.connect(version, port=9)  # so that the neighbours know each other
    for _ in range(50):
        attempt = probe.connect(site.client, SERVER[version], SSH, timeout=3, knock=device.knock())
        assert (attempt.result, attempt.resent) == ("open", 0)
        send(site, device.knock(close=True), version)
        wait_until(lambda: not granted(site, version))
    assert site.stranger_connects(version) == "silent"
    assert "reason=" not in running.log.replace("reason=no-grant", ""), running.log


def test_a_replay_grants_nothing_from_wherever_it_comes(site: Site, version: int) -> None:
    """Not from the same address, another, or a forged one; not with older and newer knocks in between."""
    running, device = start(site)
    first = device.knock()
    send(site, first, version)
    wait_until(lambda: granted(site, version) == [CLIENT[version]])
    site.ok("revoke", CLIENT[version])
    send(site, first, version)
    refused(running, "replayed", times=1)
    send(site, first, version, namespace=site.stranger)
    refused(running, "replayed", times=2)
    forge(site, first, version, source=SPARE[version])
    refused(running, "replayed", times=3)
    older = device.knock(late=5, service="web")
    newer = device.knock(service="web")
    for knock in (newer, older):
        send(site, knock, version)
    wait_until(lambda: running.log.count("opened client=laptop") == 4)
    for number, knock in enumerate((first, older, newer), 4):
        send(site, knock, version, namespace=site.stranger)
        refused(running, "replayed", times=number)
    send(site, device.knock(late=11), version)  # never sent before, but too far behind what was
    refused(running, "replayed", times=7)
    assert granted(site, version) == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_replay_after_a_restart_grants_nothing(site: Site, version: int, end: str) -> None:
    running, device = start(site)
    knock = device.knock()
    send(site, knock, version)
    wait_until(lambda: granted(site, version) == [CLIENT[version]])
    running.stop() if end == "stop" else running.kill()
    again = site.run()
    send(site, knock, version, namespace=site.stranger)
    refused(again, "replayed")
    assert granted(site, version) == [CLIENT[version]]


STEPS = {
    "before-the-commit": ("gatekeeper.store.sqlite:SqliteStore.commit", False),
    "behind-the-commit": ("+gatekeeper.store.sqlite:SqliteStore.commit", True),
    "before-the-kernel": ("gatekeeper.firewall.kernel:IpsetBackend.change", True),
    "behind-the-kernel": ("+gatekeeper.firewall.kernel:IpsetBackend.change", True),
    "before-the-verdict": ("+gatekeeper.enforce:Enforcer.carry_out", True),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_knock_counts_once_wherever_the_server_is_killed(site: Site, step: str) -> None:
    """Killed before the commit it has not counted, and may come again; from the commit on it has, and may not."""
    place, is_committed = STEPS[step]
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = site.run(program=(sys.executable, WARPED, "-", place))
    knock = device.knock()
    send(site, knock)
    running.process.wait(5)
    running.kill()
    again = site.run()
    assert granted(site, 4) == ([CLIENT[4]] if is_committed else [])
    send(site, knock, namespace=site.stranger)
    if not is_committed:
        wait_until(lambda: granted(site, 4) == [STRANGER[4]])
        send(site, knock)
    refused(again, "replayed")
    assert len(granted(site, 4)) == 1


def test_honest_knocks_that_overtake_each_other_are_all_granted(site: Site) -> None:
    """For two families and two services, sent in one order and arriving in another."""
    site.spread_packets_over_two_cpus()
    running, device = start(site)
    for _ in range(10):
        knocks = [(version, device.knock(service=name)) for version in (4, 6) for name in ("ssh", "web")]
        for version, knock in reversed(knocks):
            send(site, knock, version)
        for version in (4, 6):
            for name in ("ssh", "web"):
                wait_until(lambda version=version, name=name: granted(site, version, name) == [CLIENT[version]])  # type: ignore[misc]
        closes = [(version, device.knock(close=True)) for version in (4, 6)]
        for version, knock in reversed(closes):
            send(site, knock, version)
        wait_until(lambda: not any(granted(site, version, name) for version in (4, 6) for name in ("ssh", "web")))
    assert " refused " not in running.log


def test_an_opening_that_was_held_back_does_not_undo_a_close(site: Site, version: int) -> None:
    running, device = start(site)
    held_back = device.knock()
    with site.stream(version, knock=device.knock()) as stream:
        send(site, device.knock(close=True), version)
        assert probe.until_end(stream, timeout=2) is not None
    send(site, held_back, version)
    refused(running, "before-close")
    assert granted(site, version) == []
    send(site, device.knock(), version)
    wait_until(lambda: granted(site, version) == [CLIENT[version]])


def test_tampering_with_any_bit_grants_nothing_and_leaves_nothing(site: Site) -> None:
    """928 knocks that differ in one bit: no grant, nothing in the store; then the untouched one opens."""
    _, device = start(site)
    good = device.knock()
    for bit in range(len(good) * 8):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        send(site, bytes(bad))
        time.sleep(0.011)  # fewer than the kernel takes from one sender
    without_a_tag = 4 * 8  # these end in the kernel
    wait_until(lambda: sum(site.status()["counters"].values()) == len(good) * 8 - without_a_tag, seconds=10)
    assert set(site.status()["counters"]) <= {"wrong-epoch", "unknown-client", "bad-mac"}
    assert granted(site, 4) == []
    with contextlib.closing(sqlite3.connect(site.state / FILE)) as db:
        for table in ("grants", "floors", "spent", "owed_cuts"):
            assert db.execute("SELECT 1 FROM " + table).fetchone() is None, table  # noqa: S608
    send(site, good)
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])


def test_the_clocks_may_differ_by_two_minutes(site: Site, version: int) -> None:
    running, device = start(site)
    for late in (115, -115):
        send(site, device.knock(late=late), version)
        wait_until(lambda: bool(granted(site, version)))
        site.ok("revoke", CLIENT[version])
        device = replace_device(site, running, device)
        running = site.run()
    for late in (125, -125):
        knock = device.knock(late=late)
        epochs = wire.epoch_at(time.time() - late) - wire.epoch_at(time.time())
        send(site, knock, version)
        reason = "wrong-epoch" if abs(epochs) > 1 else "clock-skew"
        wait_until(lambda reason=reason: f"refused reason={reason}" in running.log)  # type: ignore[misc]
    assert granted(site, version) == []


def replace_device(site: Site, running: Gatekeeper, device: Device) -> Device:
    """Give the client a new key: the old one's floor has moved."""
    running.stop()
    text = site.rules.read_text()
    fresh = Device(device_server(site))
    site.write_rules(text.replace(device.key, fresh.key))
    return fresh


def device_server(site: Site) -> bytes:
    """Return the server's public key, as an administrator gets it."""
    return keys.parse_public(site.ok("pubkey", "--server").strip())


def test_two_devices_of_a_client_do_not_disturb_each_other(site: Site, version: int) -> None:
    """Each has its own key and its own clock; they are one client, with one grant for an address."""
    public = server_key(site)
    laptop, phone = Device(public), Device(public)
    site.write_rules(rules_for(ann=f"{{key: {laptop.key}, also_keys: [{phone.key}], services: [ssh]}}"))
    running = site.run()
    send(site, laptop.knock(), version)
    wait_until(lambda: granted(site, version) == [CLIENT[version]])
    send(site, phone.knock(late=60), version, namespace=site.stranger)
    wait_until(lambda: granted(site, version) == sorted([CLIENT[version], STRANGER[version]]))
    assert {grant["client"] for grant in site.status()["grants"]} == {"ann"}
    assert " refused " not in running.log


def test_a_client_that_is_gone_from_the_rules_is_nobody(site: Site) -> None:
    running, device = start(site)
    send(site, device.knock())
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])
    running.stop()
    other = Device(device_server(site))
    site.write_rules(rules_for(other=f"{{key: {other.key}, services: [ssh]}}"))
    again = site.run()
    assert granted(site, 4) == []
    send(site, device.knock())
    refused(again, "unknown-client")
    send(site, other.knock())
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])


def test_what_the_rules_say_of_a_client_holds(site: Site, version: int) -> None:
    """bind, for_others, from, not_after, services and the limits of time: each in its turn, over the network."""
    public = server_key(site)
    here = f"{CLIENT[version]}/{32 if version == 4 else 128}"
    more = {
        "bound": "bind: required",
        "free": "bind: optional",
        "proxy": "for_others: true",
        "inside": f"from: ['{here}']",
        "outside": "from: [10.0.0.0/8, 'fd00::/8']",
        "past": "not_after: 2026-01-31",
        "short": "ttl: 90s",
        "asks": "ttl: 30m",
    }
    devices = {name: Device(public) for name in more}
    site.write_rules(
        rules_for(**{name: f"{{key: {one.key}, services: [ssh], {more[name]}}}" for name, one in devices.items()})
    )
    running = site.run()

    def opens(name: str, source: str = CLIENT[version], *, seconds: int = 3600, **ask: object) -> None:
        send(site, devices[name].knock(**ask), version)  # type: ignore[arg-type]
        wait_until(lambda: granted(site, version) == [source])
        lines = site.shell("ipset", "list", f"gatekeeper-{version}-ssh").splitlines()
        left = int(next(line for line in lines if line.startswith(source)).split()[-1])
        assert seconds - 5 <= left <= seconds
        site.ok("revoke", source)

    def is_refused(name: str, reason: str, **ask: object) -> None:
        before = running.log.count(f"refused reason={reason} client={name}")
        send(site, devices[name].knock(**ask), version)  # type: ignore[arg-type]
        wait_until(lambda: running.log.count(f"refused reason={reason} client={name}") == before + 1)
        assert granted(site, version) == []

    opens("bound", address=CLIENT[version])
    is_refused("bound", "address-missing")
    is_refused("bound", "address-mismatch", address=STRANGER[version])
    opens("free")
    opens("free", address=CLIENT[version])
    is_refused("free", "address-mismatch", address=SPARE[version])
    opens("proxy", source=SPARE[version], address=SPARE[version])
    is_refused("proxy", "bad-address", address="224.0.0.1" if version == 4 else "ff02::1")
    opens("inside")
    is_refused("outside", "source-not-allowed")
    is_refused("past", "client-expired")
    is_refused("free", "service-not-allowed", service="web")
    is_refused("free", "service-not-allowed", service="no-such")
    opens("short", seconds=90)
    opens("short", seconds=30, ttl=30)
    opens("asks", seconds=1800)
    opens("asks", seconds=7200, ttl=86_400)  # max_ttl
    opens("free", seconds=7200, ttl=wire.FOREVER)


def test_a_knock_that_was_caught_is_of_no_use_elsewhere_if_it_is_bound(site: Site, version: int) -> None:
    """And its use elsewhere does not spend it: it still opens for its owner."""
    running, device = start(site, "services: [ssh], bind: required")
    knock = device.knock(address=CLIENT[version])
    for number in (1, 2, 3):
        send(site, knock, version, namespace=site.stranger)
        refused(running, "address-mismatch", times=number)
    send(site, knock, version)
    wait_until(lambda: granted(site, version) == [CLIENT[version]])


def test_an_old_key_of_the_server_is_accepted_until_its_date(site: Site) -> None:
    """The rotation of the server's key, as docs/rules.md has it."""
    running, device = start(site)
    send(site, device.knock())
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])
    running.stop()
    old = site.directory / "old.key"
    (site.state / "server.key").rename(old)
    text = site.rules.read_text()
    site.write_rules(f"{text}server: {{old_keys: [{{key_file: {old}, until: 2999-01-31}}]}}\n")
    again = site.run()
    assert "made the server's key" in again.log
    fresh = Device(device_server(site), device.private)
    site.ok("revoke", CLIENT[4])
    for one in (device, fresh):
        send(site, one.knock())
        wait_until(lambda: granted(site, 4) == [CLIENT[4]])
        site.ok("revoke", CLIENT[4])
    again.stop()
    site.write_rules(f"{text}server: {{old_keys: [{{key_file: {old}, until: 2026-01-31}}]}}\n")
    last = site.run()
    send(site, device.knock())
    refused(last, "old-server-key")
    send(site, fresh.knock())
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])


def test_a_clock_that_was_wrong_and_is_put_right(site: Site) -> None:
    """Knocks of the wrong days stay spent; the client gets in again once its floor has been set back."""
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    clock = site.directory / "clock"
    day = 86_400
    running = site.run(program=(sys.executable, WARPED, str(clock), "-"))
    clock.write_text(str(day))
    time.sleep(1.2)  # a leap of the clock is noticed within a second
    wrong = device.knock(late=-day)
    send(site, wrong)
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])
    site.ok("revoke", CLIENT[4])
    clock.write_text("0")
    time.sleep(1.2)
    send(site, device.knock())
    refused(running, "floor-ahead")
    assert "set back 1 replay floor of laptop" in site.ok("reset-floor", "laptop")
    time.sleep(1.2)  # what another process did is noticed within a second
    send(site, device.knock())
    wait_until(lambda: granted(site, 4) == [CLIENT[4]])
    site.ok("revoke", CLIENT[4])
    clock.write_text(str(day))
    time.sleep(1.2)
    send(site, wrong)
    refused(running, "replayed")
    assert granted(site, 4) == []


def test_the_server_answers_where_it_is_told_to_and_only_then(site: Site, version: int) -> None:
    """An answer comes from the address and the port that were knocked at, to accepted knocks only."""
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}") + "knock: {ack: true}\n")
    site.run()
    one = site.udp_socket(version)
    with one:
        one.connect((SERVER[version], 62201))
        one.settimeout(2)
        payload = wire.Payload(action=wire.OPEN, sent_at=time.time_ns(), ttl=1800)
        knock, handshake = device.sealer.seal(payload, keys.generate(), now=time.time())
        one.send(knock)
        answer = device.sealer.open_answer(handshake, one.recv(2048))
        assert (answer.result, answer.ttl) == (wire.OPEN, 1800)
        assert granted(site, version) == [CLIENT[version]]
        one.settimeout(0.3)
        for silent in (knock, knock[:-1] + b"x", b"open_sesame", device.knock(service="web")):
            one.send(silent)
            with pytest.raises(TimeoutError):
                one.recv(2048)
