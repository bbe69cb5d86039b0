"""The commands of the documents that no namespace can run, and what runs them instead."""

from __future__ import annotations

import re

ELSEWHERE = (
    # what fetches, builds, tests or measures the checkout itself
    (r"git clone REPOSITORY .*", ".ci/run"),
    (r"scripts/(check|test|demo|setup|deb|bench|fuzz|vagrant-test)( .*)?", "scripts/{1}"),
    (r"GATEKEEPER_CRASH_ROUNDS=5000 scripts/test -k crashes", "tests/netns/test_crashes.py"),
    (r"(cd vagrant && )?(\.\./scripts/)?vagrant.*", "scripts/vagrant-test"),
    # what changes the machine itself: whole machines, and a bare system, are there for it
    (r"sudo apt-get (update|install -y .*)", "vagrant/provision.sh"),
    (r"sudo apt-get install \./dist/.*", "debian/try"),
    (r"sudo install -m 640 -g gatekeeper /usr/share/doc/gatekeeper/examples/.*", "debian/try-inside"),
    (r"sudo python3 -m venv /opt/gatekeeper|sudo /opt/gatekeeper/bin/pip install .*", "vagrant/provision.sh"),
    (r"sudo ln -sf /opt/gatekeeper/bin/gatekeeper .*", "vagrant/provision.sh"),
    (r"sudo gatekeeper install( --confirm \d+)?", "vagrant/integration/test_1_installed.py"),
    (r"sudo gatekeeper uninstall", "tests/test_units.py"),
    (r"(sudo )?systemctl (stop|mask|disable|restart) .*", "vagrant/integration/test_7_legacy.py"),
    (r"(pipx|uv tool) install \.", "tests/test_wheel.py"),
    (r'eval "\$\(gatekeeper completion (bash|zsh)\)"|gatekeeper completion fish > .*', "tests/test_completion.py"),
    (r"journalctl .*", "vagrant/integration/test_3_reloaded.py"),
    # what needs a server of another kind
    (r"exec (curl|logger) .*", "tests/hooks/test_running.py"),
    (r"sudo -u gatekeeper env -i .*/usr/local/lib/gatekeeper/tell ops", "tests/hooks/test_running.py"),
    (r"fwknop -n myserver .*", "tests/netns/test_fwknop.py"),
    (r"knock SERVER .* && ssh SERVER", "tests/netns/test_sequence.py"),
    (r"gatekeeper (knock|connect) .*--format fwknop.*", "tests/netns/test_old_servers.py"),
    (r"gatekeeper knock .*--format sequence.*", "tests/netns/test_old_servers.py"),
    (r"sudo gatekeeper import (fwknop|knockd) .*", "tests/netns/test_packaged_configs.py"),
    (r"ssh laptop gatekeeper join .*", "tests/test_clientlist.py"),
    # what is for who is locked out: its blocks are run word for word
    (r"ipset add gatekeeper-[46]-ssh .*", "tests/netns/test_break_glass.py"),
    (r"(kill -9|sleep|ip6?tables-(nft|legacy)-save|ipset list -n) .*", "tests/netns/test_break_glass.py"),
)


def where(command: str) -> str | None:
    """Name the file that runs a command instead; ``None``: it is run by tests/netns/test_pages.py."""
    for pattern, file in ELSEWHERE:
        if match := re.fullmatch(pattern, command):
            return file.replace("{1}", match[1]) if "{1}" in file else file
    return None
