"""``gatekeeper status`` on a terminal, beside a real run."""

from __future__ import annotations

from gatekeeper.demo.network import CLIENT, STRANGER, netns_argv
from gatekeeper.demo.server import gatekeeper_argv
from tests.netns.site import Site, wait_until
from tests.terminal import Terminal


def argv(site: Site, *arguments: str) -> list[str]:
    places = ("--rules", str(site.rules), "--state-dir", str(site.state))
    return netns_argv(site.server, *gatekeeper_argv("status", *places, *arguments))


def test_a_live_view_shows_what_happens_and_outlives_the_run(site: Site) -> None:
    running = site.run()
    with Terminal(argv(site, "--watch", "0.3"), width=100, height=40) as terminal:
        terminal.wait_for("no live grants")
        site.knock(b"open_sesame", 4)
        terminal.wait_for("LAST DECISIONS")
        assert next(line for line in terminal.frame.splitlines() if line.startswith("opened ")).split()[2] == "laptop"
        ssh = next(line for line in terminal.frame.splitlines() if line.startswith("ssh "))
        assert ssh.split()[-1] == "1", "in the kernel"
        assert " 59m5" in terminal.wait_for(" 59m5"), "it counts down"
        for _ in range(20):
            site.knock(b"junk_sesame", 4, namespace=site.stranger)
        terminal.wait_for(STRANGER[4])
        refused = next(line for line in terminal.frame.splitlines() if line.startswith(STRANGER[4]))
        assert refused.split() == [STRANGER[4], "unknown-key", "20"]
        wait_until(lambda: _rate(terminal, "unknown-key") > 0)
        running.stop()
        terminal.wait_for("run is not up: nobody new gets in")
        site.rules.write_text("services: nonsense\n")
        terminal.wait_for("what is below is old: ")
        terminal.press(b"q")
        assert terminal.ends() == 0
        assert terminal.is_as_before
        assert "Traceback" not in terminal.shown


def _rate(terminal: Terminal, reason: str) -> float:
    terminal.read(0.1)
    line = next((line for line in terminal.frame.splitlines() if line.startswith(reason)), f"{reason} - -")
    rate = line.split()[1]
    return 0.0 if rate == "-" else float(rate)


def test_rules_that_cannot_be_used_are_said_on_a_terminal_too(site: Site) -> None:
    site.run()
    site.rules.write_text("services: {ssh: {prot: tcp/22}}\n")
    assert site.command("reload").returncode == 1
    with Terminal(argv(site), width=500) as terminal:  # the line is not broken, however long the path is
        assert terminal.ends() == 0
    assert "cannot be used: " in terminal.frame
    assert f"{site.rules}:1:12: " in terminal.frame
    assert "are in force" in terminal.frame


def test_without_a_terminal_it_is_plain_text_a_block_each_time(site: Site) -> None:
    site.run()
    site.ok("grant", CLIENT[4], "ssh")
    shell = ["timeout", "--foreground", "--preserve-status", "--signal=INT", "2", *argv(site, "--watch", "0.2")]
    done = site.inside(site.server, *shell)
    assert done.returncode == 0
    assert done.stdout.count("run is up (process ") >= 2
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr
