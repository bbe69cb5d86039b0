"""fwknopd.conf: what of it matters for rules.yaml, which is the knock port and how old a knock may be. Pure."""

from __future__ import annotations

import re

from gatekeeper.migrate.access import Setting, entries
from gatekeeper.migrate.draft import Draft
from gatekeeper.migrate.note import Notes

DEFAULT_PORT = 62201
MAX_AGE = 120
"""Seconds that a clock may differ, here and by default there."""
_MOST_PORTS = 16
_FILTER = re.compile(r"\(?\s*udp\s+(?:dst\s+)?port\s+(\d{1,5})\s*\)?", re.ASCII | re.IGNORECASE)
_OR = re.compile(r"\s+or\s+|\s*\|\|\s*", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_IF_YES = {
    "ENABLE_SPA_OVER_HTTP": "knocks over HTTP are not heard: clients must send them by UDP (fwknop without -P http)",
    "ENABLE_TCP_SERVER": "knocks over TCP are not heard: clients must send them by UDP (fwknop without -P tcp)",
    "ENABLE_NFQ_CAPTURE": None,
    "ENABLE_IPT_FORWARDING": "NAT access (fwknop -N) is refused",
    "ENABLE_FIREWD_FORWARDING": "NAT access (fwknop -N) is refused",
    "ENABLE_IPT_SNAT": "nothing is translated: keep what you need of it as rules of your own",
    "ENABLE_FIREWD_SNAT": "nothing is translated: keep what you need of it as rules of your own",
    "ENABLE_DESTINATION_RULE": "a grant is for all addresses of this machine (see `address` of a service)",
    "ENABLE_PCAP_ANY_DIRECTION": "knocks that only pass through this machine are not heard",
    "ENABLE_EXTERNAL_CMDS": "no command is ever run",
}
"""What has no equal if it is Y; ``None``: it has, by itself."""
_IF_SET = {
    "SNAT_TRANSLATE_IP": "nothing is translated: keep what you need of it as rules of your own",
    "PCAP_FILE": "knocks are not read from a file",
    "ACCESS_FOLDER": "it was not looked at: import each of its files",
}
_CHAINS = re.compile(r"(IPT|FIREWD)_(INPUT|OUTPUT|FORWARD|DNAT|SNAT|MASQUERADE)_ACCESS")
_WITHOUT_EFFECT = re.compile(
    r"VERBOSE|ENABLE_PCAP_PROMISC|PCAP_(DISPATCH_COUNT|LOOP_SLEEP)|NFQ_\w+|MAX_SNIFF_BYTES|GPG_(HOME_DIR|EXE)|"
    r"ENABLE_NAT_DNS|ENABLE_X_FORWARDED_FOR|ALLOW_ANY_USER_AGENT|ENABLE_RULE_PREPEND|TCPSERV_PORT|UDPSERV_\w+|LOCALE|"
    r"SYSLOG_\w+|FLUSH_\w+|ENABLE_(IPT|FIREWD)_(LOCAL_NAT|OUTPUT|COMMENT_CHECK)|IPFW_\w+|PF_\w+|FWKNOP_\w+|ACCESS_FILE|"
    r"DIGEST_\w+|FIREWALL_EXE|SUDO_EXE|EXTERNAL_CMD_\w+|ENABLE_EXT_CMD_PREFIX|EXT_CMD_PREFIX|RULES_CHECK_THRESHOLD|"
    r"EXIT_AT_INTF_DOWN|CMD_EXEC_TIMEOUT|ENABLE_UDP_SERVER|PCAP_FILTER|MAX_SPA_PACKET_AGE|ENABLE_SPA_PACKET_AGING"
)
"""What says how fwknopd works and not what it lets in, or is looked at elsewhere."""


def read(file: str, content: bytes, draft: Draft, notes: Notes) -> None:
    """Take over the knock port, and how old a knock may be.

    Raises:
        ConversionError: it is no text, or too large.
    """
    settings = {one.name: one for one in entries(file, content, notes)}  # the last one counts
    draft.knock["port"] = _ports(settings, notes)
    draft.knock["skew"] = f"{_skew(settings, notes)}s"
    for setting in settings.values():
        _note(setting, notes)


def _note(setting: Setting, notes: Notes) -> None:
    name, value = setting.name, setting.value
    if name in _IF_YES:
        words = _IF_YES[name] if setting.is_yes else None
        if words is not None:
            notes.add(setting.where, f"{name}: {words}")
    elif name in _IF_SET:
        notes.add(setting.where, f"{name}: {_IF_SET[name]}")
    elif name == "PCAP_INTF":
        hint = "`interface` of a service says where its port is guarded"
        notes.add(setting.where, f"{name}: knocks are heard at all interfaces, not at {value!a} only", hint)
    elif name == "ENABLE_DIGEST_PERSISTENCE":
        if not setting.is_yes:
            notes.add(setting.where, f"{name}: replays are refused here")
    elif _CHAINS.fullmatch(name):
        notes.add(setting.where, f"{name}: there are no such chains; gatekeeper's own stand in the mangle table")
    elif not _WITHOUT_EFFECT.fullmatch(name):
        notes.add(setting.where, f"{name!a} is no variable of fwknopd.conf: fwknopd ignores it, too")


def _ports(settings: dict[str, Setting], notes: Notes) -> str:
    server = settings.get("ENABLE_UDP_SERVER")
    by_server = settings.get("UDPSERV_PORT") if server is not None and server.is_yes else None
    by_filter = settings.get("PCAP_FILTER") if server is None or not server.is_yes else None
    setting = by_server or by_filter
    if setting is None:
        return f"udp/{DEFAULT_PORT}"
    found: list[int] = []
    for part in [setting.value] if by_server else _OR.split(setting.value):
        match = _NUMBER.fullmatch(part.strip()) if by_server else _FILTER.fullmatch(part.strip())
        number = int(match[match.lastindex or 0]) if match else 0
        if not 1 <= number <= 65535:
            words = (
                f"{setting.name}: {part!a} is not taken over: knocks come to up to {_MOST_PORTS} UDP ports by number"
            )
            notes.add(
                setting.where, words, "say under knock: port: where clients send them (-r, a random port, has no equal)"
            )
        elif number not in found:
            found.append(number)
    if len(found) > _MOST_PORTS:
        notes.add(setting.where, f"{setting.name}: the first {_MOST_PORTS} of {len(found)} ports are taken over")
    names = [f"udp/{number}" for number in found[:_MOST_PORTS]]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]" if names else f"udp/{DEFAULT_PORT}"


def _skew(settings: dict[str, Setting], notes: Notes) -> int:
    aging = settings.get("ENABLE_SPA_PACKET_AGING")
    if aging is not None and not aging.is_yes:
        hint = "have the clients' clocks set (NTP), or give them sealed keys"
        notes.add(aging.where, f"{aging.name}: a knock may be {MAX_AGE} s old or early here, no matter what", hint)
        return MAX_AGE
    age = settings.get("MAX_SPA_PACKET_AGE")
    if age is None:
        return MAX_AGE
    seconds = int(age.value) if _NUMBER.fullmatch(age.value) else -1
    if 1 <= seconds <= MAX_AGE:
        return seconds
    notes.add(age.where, f"{age.name}: {age.value!a} is not taken over: skew goes from 1 to {MAX_AGE} s here")
    return MAX_AGE
