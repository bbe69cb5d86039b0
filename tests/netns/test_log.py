"""The audit trail of a real run: knocks, refusals of clients, time, and what is done by hand."""

from __future__ import annotations

import json

from gatekeeper.demo.network import CLIENT
from tests.netns.device import Device, rules_for, send, server_key
from tests.netns.site import Site, wait_until


def test_what_came_of_each_knock_can_be_read(site: Site, version: int) -> None:
    device = Device(server_key(site))
    site.write_rules(rules_for(laptop=f"{{key: {device.key}, services: [ssh]}}"))
    running = site.run()

    def log(*options: str) -> list[tuple[str, str, str | None]]:
        lines = map(json.loads, site.ok("log", "--json", *options).splitlines())
        return [(line["reason"], line["client"], line.get("service")) for line in lines]

    send(site, device.knock(), version)
    wait_until(lambda: "opened client=laptop" in running.log)
    assert log() == [("opened", "laptop", "ssh")]  # at once: it is in the transaction of the grant
    send(site, device.knock(service="web"), version)
    wait_until(lambda: len(log()) == 2)
    site.ok("revoke", CLIENT[version])
    site.ok("grant", CLIENT[version], "ssh", "--ttl", "1s")
    wait_until(lambda: log("--reason", "expired") == [("expired", "(admin)", "ssh")])
    assert log("--source", CLIENT[version]) == [
        ("opened", "laptop", "ssh"),
        ("service-not-allowed", "laptop", None),
        ("revoked", "laptop", "ssh"),
        ("granted", "(admin)", "ssh"),
        ("expired", "(admin)", "ssh"),
    ]
