"""The commands of the documents that no namespace can run, and what runs them instead."""

from __future__ import annotations

import ast
import re

from tests.pages.blocks import ROOT

ELSEWHERE = (
    # what fetches, builds, tests or measures the checkout itself
    (r"git clone REPOSITORY .*", ".ci/run"),
    (r"scripts/(check|test|demo|setup|deb|bench|fuzz|vagrant-test)( .*)?", "scripts/{1}"),
    (
        r"GATEKEEPER_CRASH_ROUNDS=5000 scripts/test -k crashes",
        "tests/netns/test_crashes.py::test_after_kills_at_any_moment_store_kernel_and_promises_agree",
    ),
    (r"(cd vagrant && )?(\.\./scripts/)?vagrant.*", "scripts/vagrant-test"),
    # what changes the machine itself: whole machines, and a bare system, are there for it
    (r"sudo apt-get (update|install -y .*)", "vagrant/provision.sh"),
    (r"sudo apt-get install \./dist/.*", "debian/try"),
    (r"sudo install -m 640 -g gatekeeper /usr/share/doc/gatekeeper/examples/.*", "debian/try-inside"),
    (r"sudo python3 -m venv /opt/gatekeeper|sudo /opt/gatekeeper/bin/pip install .*", "vagrant/provision.sh"),
    (r"sudo ln -sf /opt/gatekeeper/bin/gatekeeper .*", "vagrant/provision.sh"),
    (
        r"sudo gatekeeper install",
        "vagrant/integration/test_1_installed.py::test_the_session_that_installed_it_was_granted",
    ),
    (r"sudo gatekeeper uninstall", "tests/test_units.py::test_units_are_written_once_replaced_when_older_and_removed"),
    (
        r"(pipx|uv tool) install \.",
        "tests/test_wheel.py::test_a_wheel_brings_the_man_page_and_a_completion_for_each_shell",
    ),
    (r'eval "\$\(gatekeeper completion zsh\)"', "tests/test_completion.py::test_zsh_offers_what_can_stand_there"),
    (
        r'eval "\$\(gatekeeper completion bash\)"|gatekeeper completion fish > .*',
        "tests/test_completion.py::test_a_shell_offers_what_can_stand_there",
    ),
    (r"journalctl .*", "vagrant/integration/test_3_reloaded.py::test_the_journal_has_a_knock_with_its_fields"),
    # what needs a server of another kind
    (r"exec (curl|logger) .*", "tests/hooks/test_docs.py::test_a_script_passes_on_what_it_is_told"),
    (
        r"sudo -u gatekeeper env -i .*/usr/local/lib/gatekeeper/tell ops",
        "tests/hooks/test_docs.py::test_a_script_passes_on_what_it_is_told",
    ),
    (
        r"fwknop -n myserver .*",
        "tests/netns/test_fwknop.py::test_it_opens_at_the_first_syn_for_the_address_that_it_names_and_for_nobody_else",
    ),
    (
        r"knock SERVER .* && ssh SERVER",
        "tests/netns/test_sequence.py::test_a_connect_right_behind_the_last_step_succeeds_at_its_first_syn",
    ),
    (
        r"gatekeeper connect .*--format fwknop",
        "tests/netns/test_old_servers.py::test_connect_knocks_at_fwknopd_for_ssh",
    ),
    (
        r"gatekeeper knock \S+ --format fwknop",
        "tests/netns/test_old_servers.py::test_our_knock_opens_a_port_of_fwknopd",
    ),
    (
        r"gatekeeper knock .*--format fwknop .*--wait .*",
        "tests/netns/test_old_servers.py::test_our_knock_waits_for_the_port_that_fwknopd_opens",
    ),
    (
        r"gatekeeper knock .*--format sequence .*--close",
        "tests/netns/test_old_servers.py::test_sequences_come_from_a_file_too_and_close_again",
    ),
    (
        r"gatekeeper knock .*--format sequence .*--delay \d+",
        "tests/netns/test_old_servers.py::test_our_sequence_opens_a_port_of_knockd",
    ),
    (
        r"sudo gatekeeper import fwknop .*",
        "tests/test_cli_migrating.py::test_a_file_is_written_for_its_owner_alone_and_can_be_used",
    ),
    (r"sudo gatekeeper import knockd .*", "tests/netns/test_packaged_configs.py::test_knockd_conf_of_the_package"),
    (r"ssh laptop gatekeeper join .*", "tests/test_clientlist.py::test_what_join_prints_is_taken_as_it_is"),
    # what is for who is locked out: its blocks are run word for word
    (
        r"ipset add gatekeeper-[46]-ssh .*",
        "tests/netns/test_break_glass.py::test_one_address_can_be_let_in_with_nobody_there",
    ),
    (
        r"(kill -9|sleep|ip6?tables-(nft|legacy)-save|ipset list -n) .*",
        "tests/netns/test_break_glass.py::test_without_python_the_commands_of_the_page_take_all_of_ours_out",
    ),
)

"""What runs them: a script, or a test by its file and name."""
NOWHERE = (
    # nothing runs these, and why
    (r"(sudo )?systemctl (stop|mask|disable) .*", "systemd's own, and it would be the unit of this very machine"),
    (r"sudo gatekeeper install --confirm \d+", "nobody confirms on the machines; the probation is in test_confirm.py"),
)


def is_there(place: str) -> bool:
    """Whether a file is there; or in it a test, for a file of tests must be named with one."""
    file, _, test = place.partition("::")
    path = ROOT / file
    if not path.exists() or path.name.startswith("test_") != bool(test):
        return False
    return not test or any(
        isinstance(node, ast.FunctionDef) and node.name == test for node in ast.parse(path.read_text()).body
    )


def where(command: str) -> str | None:
    """Name what runs a command instead, or why nothing does; ``None``: it is run by tests/netns/test_pages.py."""
    for pattern, file in (*ELSEWHERE, *NOWHERE):
        if match := re.fullmatch(pattern, command):
            return file.replace("{1}", match[1]) if "{1}" in file else file
    return None
