"""The closed ruleset as a shell script, for a boot at which gatekeeper itself cannot run. Pure.

rules.yaml may have been broken by an edit, or an upgrade of the system may have taken our Python away. What was closed
before must then not be open, so each load leaves this behind, and the early unit runs it when it fails.
"""

from __future__ import annotations

from gatekeeper.firewall import ruleset, sets
from gatekeeper.firewall.members import Members, SetMembers
from gatekeeper.firewall.names import CHAIN_PREFIX, VERSIONS
from gatekeeper.settings import Rules

_END = "END-OF-GATEKEEPER"
_TOOL = {4: "iptables", 6: "ip6tables"}
_HEAD = """\
#!/bin/sh
# The closed ruleset, as gatekeeper loaded it last: for a boot at which gatekeeper itself cannot run. It lets nobody in
# who needs a grant, and does nothing where a ruleset of gatekeeper's is loaded. Written anew whenever one is.
# To open everything again: gatekeeper flush
status=0
"""


def script(rules: Rules, variant: str, members: Members) -> str:
    """Write it, for one variant of iptables."""
    parts = [_HEAD]
    if isinstance(members, SetMembers):
        parts.append(_fed("ipset restore", sets.create_text(rules)))
    for version in VERSIONS:
        tool = f"{_TOOL[version]}-{variant}"
        load = _fed(f"{tool}-restore --noflush --wait 5", ruleset.iptables_text(rules, version, members))
        parts.append(f"if ! {tool}-save -t mangle 2>/dev/null | grep -q {CHAIN_PREFIX}; then\n{load}fi\n")
    return "".join([*parts, "exit $status\n"])


def _fed(command: str, text: str) -> str:
    return f"{command} <<'{_END}' || status=1\n{text.rstrip()}\n{_END}\n"
