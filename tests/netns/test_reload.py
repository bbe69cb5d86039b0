"""Rules are edited while ``run`` is up: it goes over to them, loses nothing that arrives, and never opens."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gatekeeper.demo import probe
from gatekeeper.demo.network import inside
from gatekeeper.demo.server import Gatekeeper
from gatekeeper.inlet import Inlet
from tests.netns.device import Device, rules_for, server_key
from tests.netns.family import children, is_whole, workers
from tests.netns.prober import Prober
from tests.netns.site import RULES, SERVER, SSH, WEB, Site, wait_until
from tests.netns.test_heal import flush_ruleset
from tests.netns.test_workers import pair

SAVE = {4: "iptables-save", 6: "ip6tables-save"}
NEW_CLIENT = "  third: {open: sesame_third, services: [ssh]}\n"


def ruleset(site: Site) -> list[str]:
    """What the kernel has, without counters and comments."""
    lines = [line for tool in SAVE.values() for line in site.shell(tool).splitlines()]
    return [line.partition(" [")[0] for line in lines if not line.startswith("#")]


def settle(running: Gatekeeper, number: int) -> None:
    """Wait until all are there."""
    wait_until(lambda: len(workers(running)) == number and {"guardian", "keeper"} <= set(children(running)))


def tell(words: str) -> None:
    """Show a figure, to `pytest -s`."""
    sys.stdout.write(f"{words}\n")


def in_the_background(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


# -- what lives on


def test_grants_and_streams_live_on_and_a_new_client_gets_in(site: Site, version: int) -> None:
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        before = {(one["source"], one["service"]) for one in site.status()["grants"]}
        old = children(running)
        site.write_rules(RULES + NEW_CLIENT)
        said = site.ok("reload")
        assert "1 client added" in said
        assert "live grants: 2" in said
        assert {(one["source"], one["service"]) for one in site.status()["grants"]} == before
        assert not set(old.values()) & set(children(running).values()), "all have begun anew"
        assert site.connect(version) == "open"
        assert site.stranger_connects(version) == "silent"
        site.knock(b"sesame_third", version, namespace=site.stranger)
        wait_until(lambda: site.stranger_connects(version) == "open")
        assert probe.until_end(stream, timeout=0.3) is None
    assert running.process.poll() is None


def test_a_client_that_is_gone_loses_its_grants_and_its_stream(site: Site, version: int) -> None:
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        site.ok("grant", "10.9.8.7", "ssh")
        kept = [line for line in RULES.splitlines(keepends=True) if "laptop" not in line]
        site.write_rules("".join(kept))
        assert "1 client removed" in site.ok("reload")
        ended = probe.until_end(stream, timeout=1)
        assert ended is not None
    assert site.connect(version) == "silent"
    assert [(one["source"], one["service"]) for one in site.status()["grants"]] == [("10.9.8.7", "ssh")]
    assert "ended client=laptop" in running.log


def test_a_service_that_is_new_or_gone_and_what_is_open_on_its_port(site: Site, version: int) -> None:
    """A stream to a port that is guarded only now lives on; a port that is no longer guarded is open."""
    only_ssh = "services: {ssh: {port: tcp/2222}}\nclients: {laptop: {open: open_sesame, services: [ssh]}}\n"
    site.write_rules(only_ssh)
    site.run()
    with site.stream(version, port=WEB) as stream:
        site.write_rules(
            f"services: {{web: {{port: tcp/{WEB}}}}}\nclients: {{laptop: {{open: sesame, services: [web]}}}}"
        )
        site.ok("reload")
        assert site.stranger_connects(version, port=WEB) == "silent"
        assert site.stranger_connects(version) == "open"
        assert probe.until_end(stream, timeout=0.3) is None
    site.write_rules(only_ssh)
    site.ok("reload")
    assert site.stranger_connects(version, port=WEB) == "open"
    assert site.stranger_connects(version) == "silent"


def test_a_stream_to_the_port_that_a_service_moves_to_lives_on(site: Site, version: int) -> None:
    """The slip of the pen that guards, from now on, the port by which one is connected."""
    site.run()
    site.write_rules(RULES.replace("tcp/8080", "tcp/8081").replace("web:", "webs:").replace("[ssh, web]", "[ssh]"))
    site.ok("reload")
    with site.stream(version, port=WEB) as stream:
        site.write_rules(site.rules.read_text().replace(f"tcp/{SSH}", f"[tcp/{SSH}, tcp/{WEB}]"))
        site.ok("reload")
        assert site.stranger_connects(version, port=WEB) == "silent"
        assert probe.until_end(stream, timeout=0.3) is None
        stream.sendall(b"still here")
        stream.settimeout(2)
        assert stream.recv(100) == b"still here"


# -- nothing is lost, nothing opens


@pytest.mark.timing
@pytest.mark.parametrize("crew", [(1,), (1, 4)], ids=["one", "changing"])
def test_no_knock_is_lost_while_rules_are_reloaded(site: Site, version: int, crew: tuple[int, ...]) -> None:
    """20 reloads in a row, with 1 worker, or with 1 and 4 in turns: each client is in at its first SYN."""
    device = Device(server_key(site))
    clients = rules_for(phone=f"{{key: {device.key}, services: [ssh]}}")
    site.write_rules(clients)
    running = site.run()
    site.connect(version, port=9)
    failed: list[str] = []

    def reloads() -> None:
        nonlocal failed
        for turn in range(1, 21):
            site.write_rules(
                f"workers: {crew[turn % len(crew)]}\n{clients}  n{turn}: {{open: sesame{turn}, services: [ssh]}}\n"
            )
            done = site.command("reload")
            failed += [done.stderr] if done.returncode else []

    with Prober(site.stranger, SERVER[version], SSH, rate=300) as prober:
        thread = in_the_background(reloads)
        again: list[int] = []
        number = 0
        while thread.is_alive() and number < 3000:
            number += 1
            again.append(pair(site, version, number, device.knock()))
        thread.join()
        probes = prober.stop()
    assert failed == []
    assert number > 50, number
    tell(f"{number} pairs in 20 reloads, {sum(map(bool, again))} SYNs again; {probes.tries} tries of a stranger")
    assert [one for one, times in enumerate(again, 1) if times] == []
    assert probes.connects == ()
    assert len(site.status()["grants"]) == number
    queues = {row[0] for row in site.queues()}
    assert len(queues) == 3 * crew[20 % len(crew)], "queues that nobody needs are let go of"
    assert running.process.poll() is None


def test_going_over_from_observing_to_guarding_opens_nothing(site: Site, version: int) -> None:
    running = site.run()
    guarding = ruleset(site)
    site.write_rules(f"mode: observe\n{RULES}")
    site.ok("reload")
    assert site.stranger_connects(version) == "open"
    site.write_rules(RULES)
    site.ok("reload")
    assert site.stranger_connects(version) == "silent"
    assert sorted(ruleset(site)) == sorted(guarding)
    with site.stream(version, knock=b"open_sesame"):
        pass
    assert running.process.poll() is None


# -- what cannot be used


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services: {ssh: {port: tcp/99999}}\n", "port 99999 is out of range"),
        (f"{RULES}firewall: {{queue: 7000}}\n", "a reload cannot change the section firewall"),
    ],
    ids=["bad", "restart"],
)
def test_what_cannot_be_used_changes_nothing_and_is_said_everywhere(
    site: Site, version: int, text: str, why: str
) -> None:
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        before, crew = ruleset(site), children(running)
        site.write_rules(text)
        done = site.command("reload")
        assert done.returncode == 1
        assert why in done.stderr
        assert "Traceback" not in done.stderr
        assert ruleset(site) == before
        assert children(running) == crew
        wait_until(lambda: "is not reloaded, and nothing has changed" in running.log)
        assert why in running.log
        shown = site.ok("status")
        assert why in shown
        assert "are in force" in shown
        assert json.loads(site.ok("status", "--json"))["rules_trouble"]["error"]
        assert site.connect(version) == "open"
        assert probe.until_end(stream, timeout=0.2) is None
    site.write_rules(RULES)
    site.ok("reload")
    assert "are in force" not in site.ok("status")


def test_a_queue_that_somebody_else_has_changes_nothing(site: Site) -> None:
    running = site.run()
    before = ruleset(site)
    with inside(site.server):
        taken = Inlet(6222)
    site.write_rules(f"workers: 3\n{RULES}")
    done = site.command("reload")
    assert done.returncode == 1
    assert "cannot bind queue 6222" in done.stderr
    assert ruleset(site) == before
    assert {row[0] for row in site.queues()} == {6220, 6222, 6236, 6252}
    taken.close()
    site.ok("reload")
    settle(running, 3)


def test_a_ruleset_that_cannot_be_loaded_leaves_all_as_it_was(site: Site, version: int) -> None:
    """By then everybody rests: all go on by the old rules, and a knock that came meanwhile is looked at."""
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        before, crew = sorted(ruleset(site)), children(running)
        site.shell("ipset", "create", f"gatekeeper-{version}-extra", "hash:ip")  # a set of ours could not be made
        site.write_rules(f"workers: 2\n{RULES.replace('clients:', '  extra: {port: tcp/77}' + chr(10) + 'clients:')}")
        done = site.command("reload")
        assert done.returncode == 1
        assert "ipset refused" in done.stderr
        wait_until(lambda: is_whole(running))
        assert not set(crew.values()) & set(children(running).values())
        assert sorted(ruleset(site)) == before
        assert {row[0] for row in site.queues()} == {6220, 6236, 6252}
        assert probe.until_end(stream, timeout=0.2) is None
    assert pair(site, version, 1) == 0
    assert site.stranger_connects(version) == "silent"


@pytest.mark.parametrize("firewall", ["{variant: legacy}", "{variant: nft, backend: rules}"])
def test_other_variants_and_backends_go_over_as_well(site: Site, version: int, firewall: str) -> None:
    text = f"{RULES}firewall: {firewall}\n"
    site.write_rules(text)
    running = site.run()
    with site.stream(version, knock=b"open_sesame") as stream:
        site.write_rules(text.replace("clients:", f"clients:\n{NEW_CLIENT.rstrip()}").replace("tcp/8080", "tcp/8081"))
        assert "1 service changed, 1 client added" in site.ok("reload")
        assert site.connect(version) == "open"
        assert site.stranger_connects(version) == "silent"
        assert probe.until_end(stream, timeout=0.3) is None
        site.write_rules("".join(line for line in text.splitlines(keepends=True) if "laptop" not in line))
        site.ok("reload")
        assert probe.until_end(stream, timeout=1) is not None
    assert site.connect(version) == "silent"
    assert is_whole(running)


def test_what_is_reloaded_on_probation_is_kept_for_the_next_boot_when_it_is_confirmed(site: Site) -> None:
    running = site.run("--confirm", "30")
    fallback, draft = site.state / "closed.sh", site.state / "closed.sh.unconfirmed"
    site.write_rules(RULES.replace("tcp/8080", "tcp/8081"))
    site.ok("reload")
    assert "8081" in draft.read_text()
    assert not fallback.exists()
    site.ok("confirm")
    wait_until(fallback.exists)
    site.write_rules(RULES.replace("tcp/8080", "tcp/8082"))
    site.ok("reload")
    assert "8082" in fallback.read_text()
    assert not draft.exists()
    assert running.stop() == 0


def test_what_is_reloaded_on_probation_is_put_back_with_the_rest(site: Site, version: int) -> None:
    running = site.run("--confirm", "30")
    site.write_rules(RULES.replace("tcp/8080", "tcp/8081"))
    site.ok("reload")
    site.ok("confirm", "--revert")
    assert running.process.wait(10) == 0
    running.stop()
    assert site.stranger_connects(version) == "open"
    assert not any("GKEEPER" in line for line in ruleset(site))


def test_without_run_there_is_nothing_to_reload(site: Site) -> None:
    done = site.command("reload")
    assert done.returncode == 1
    assert "run is not up" in done.stderr


def test_another_file_than_that_of_run_is_not_taken_for_it(site: Site) -> None:
    site.run()
    other = site.directory / "other.yaml"
    other.write_text(RULES)
    other.chmod(0o600)
    site.rules, mine = other, site.rules
    done = site.command("reload")
    site.rules = mine
    assert done.returncode == 1
    assert "run reads" in done.stderr


# -- signals, watching


def test_sighup_right_behind_the_start_and_twice_in_a_row(site: Site) -> None:
    running = site.run()
    for _ in range(2):
        running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: " reloaded in " in running.log)
    running.process.send_signal(signal.SIGHUP)
    time.sleep(0.05)
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: running.log.count(" reloaded in ") >= 2)
    wait_until(lambda: is_whole(running))
    assert running.stop() == 0


def test_sighup_while_it_starts_is_heard_when_it_is_ready(site: Site) -> None:
    lock = site.state / "run.lock"

    def hang_up() -> None:
        wait_until(lambda: lock.exists() and lock.read_text().endswith("\n"))
        os.kill(int(lock.read_text()), signal.SIGHUP)

    thread = in_the_background(hang_up)
    running = site.run()
    thread.join()
    wait_until(lambda: " reloaded in " in running.log)


def test_a_watched_file_is_reloaded_when_it_was_saved(site: Site, version: int) -> None:
    """In place, and as editors do: a new file is renamed over it. A bad one is complained about once."""
    site.write_rules(f"watch: true\n{RULES}")
    running = site.run()
    new = site.directory / ".rules.yaml.swp"
    new.write_text(f"watch: true\n{RULES}{NEW_CLIENT}")
    new.chmod(0o600)
    new.replace(site.rules)
    wait_until(lambda: "1 client added" in running.log, seconds=12)
    site.knock(b"sesame_third", version)
    wait_until(lambda: site.connect(version) == "open")
    site.write_rules("watch: true\nservices: [")
    wait_until(lambda: "is not reloaded" in running.log, seconds=12)
    time.sleep(6)
    assert running.log.count("is not reloaded") == 1
    assert site.connect(version) == "open"
    site.write_rules(f"watch: true\n{RULES}")
    wait_until(lambda: "1 client removed" in running.log, seconds=12)
    assert site.connect(version) == "silent"
    site.write_rules(RULES)
    wait_until(lambda: "watch changed" in running.log, seconds=12)
    site.write_rules(f"{RULES}{NEW_CLIENT}")
    time.sleep(6)
    assert running.log.count(" reloaded in ") == 3, "it was told to watch no longer"


def test_a_client_in_an_included_file_comes_and_goes_by_commands(site: Site) -> None:
    """It is added with --reload, and its removal is seen by watching. A file there that is bad changes nothing."""
    site.write_rules(f"include: rules.d\nwatch: true\n{RULES}")
    folder = site.directory / "rules.d"
    folder.mkdir()
    device = Device(server_key(site))
    running = site.run()
    line = f"ann: {{key: {device.key}, services: [ssh]}}"
    assert "1 client added" in site.ok("client", "add", line, "--file", "rules.d/ann.yaml", "--reload")
    site.knock(device.knock(), 4)
    wait_until(lambda: site.connect(4) == "open")
    (folder / "bad.yaml").write_text("clients: [")
    done = site.command("reload")
    assert (done.returncode, f"{folder / 'bad.yaml'}:" in done.stderr) == (1, True)
    (folder / "bad.yaml").unlink()
    site.ok("client", "remove", "ann")
    assert (folder / "ann.yaml").read_text() == "clients:\n"
    wait_until(lambda: "1 client removed" in running.log, seconds=12)
    assert site.connect(4) == "silent"


# -- what is there afterwards


def test_the_new_ruleset_is_healed(site: Site, version: int) -> None:
    running = site.run()
    site.write_rules(RULES.replace("tcp/8080", "tcp/8081") + NEW_CLIENT)
    site.ok("reload")
    before = ruleset(site)
    for tool in ("iptables", "ip6tables"):
        site.shell(tool, "-t", "mangle", "-F")
    wait_until(lambda: "repaired missing=" in running.log)
    wait_until(lambda: ruleset(site) == before)
    assert site.stranger_connects(version) == "silent"
    assert "8081" in "".join(before)
    assert "8080" not in "".join(before)


# -- the worst moment


def test_a_ruleset_that_is_wiped_in_the_midst_of_a_reload_is_put_back(site: Site) -> None:
    """Whoever learns what is in force must not take what is left of it for that."""
    running = site.run()
    settle(running, 1)
    before, chance = ruleset(site), random.Random()
    for number in range(15):
        site.write_rules(RULES + (NEW_CLIENT if number % 2 else ""))
        os.kill(running.process.pid, signal.SIGHUP)
        time.sleep(chance.uniform(0.0, 0.25))
        flush_ruleset(site, "nft")
        wait_until(lambda: ruleset(site) == before, seconds=12)
        wait_until(lambda: is_whole(running), seconds=10)


def test_whoever_is_killed_in_the_midst_of_a_reload_leaves_closed_what_was_closed(site: Site, version: int) -> None:
    running, chance = site.run(), random.Random()
    site.knock(b"open_sesame", version)
    wait_until(lambda: site.connect(version) == "open")
    for number in range(6):
        site.write_rules(RULES + (NEW_CLIENT if number % 2 else ""))
        os.kill(running.process.pid, signal.SIGHUP)
        time.sleep(chance.uniform(0.0, 0.3))
        running.kill()
        assert site.stranger_connects(version) == "silent"
        assert site.connect(version) == "open"
        running = site.run()


def test_fifty_reloads_cost_no_memory_and_no_descriptors(site: Site) -> None:
    running = site.run()
    pid = running.process.pid

    def used() -> tuple[int, int]:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4, len(list(Path(f"/proc/{pid}/fd").iterdir()))

    for turn in range(10):
        site.write_rules(RULES + NEW_CLIENT * (turn % 2))
        site.ok("reload")
    before = used()
    for turn in range(50):
        site.write_rules(f"workers: {1 + turn % 2}\n" + RULES + NEW_CLIENT * (turn % 2))
        site.ok("reload")
    site.write_rules(RULES + NEW_CLIENT)
    site.ok("reload")
    after = used()
    tell(f"kB and descriptors: {before} before 50 reloads, {after} after")
    assert after[1] == before[1]
    assert after[0] < before[0] + 3000


def test_diff_says_what_reload_would_change_and_changes_nothing(site: Site) -> None:
    assert "nothing is in force" in site.command("diff").stderr
    running = site.run()
    before = ruleset(site)
    assert "a reload would change nothing" in site.ok("diff")
    site.write_rules(RULES.replace("open_desk", "open_sea").replace("max_ttl: 2h", "max_ttl: 3h") + NEW_CLIENT)
    text = site.ok("diff")
    assert "max_ttl: 2h -> 3h" in text
    assert "open changed" in text
    assert "added client third" in text
    for secret in ("open_desk", "open_sea", "sesame_third"):
        assert secret not in text + site.ok("diff", "--json") + (site.state / "in-force.json").read_text()
    assert (site.state / "in-force.json").stat().st_mode & 0o777 == 0o600
    site.write_rules(f"{RULES}  x: {{open: open_x, services: [ssh]}}\nworkers: 2\n")
    shown = json.loads(site.ok("diff", "--json"))
    assert any("--queue-balance" in line and line.startswith("+ ") for line in shown["ruleset"]["iptables"])
    assert ruleset(site) == before
    site.ok("reload")
    assert "a reload would change nothing" in site.ok("diff")
    running.stop()
    assert "which is not up" in site.ok("diff")
    site.write_rules("services: 3")
    assert site.command("diff").returncode == 1
