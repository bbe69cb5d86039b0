"""fwknop's own client (Debian's) against gatekeeper: each of its options, one by one."""

from __future__ import annotations

from tests.netns.site import CLIENT, SERVER, SSH, Site, wait_until
from tests.netns.spa import fwknop, granted, refused, start


def test_it_opens_at_the_first_syn_for_the_address_that_it_names_and_for_nobody_else(site: Site) -> None:
    running = start(site)
    assert site.connect(4) == "silent"
    fwknop(site)
    wait_until(lambda: granted(site) == [CLIENT[4]])
    assert site.connect(4) == "open"
    assert site.stranger_connects(4) == "silent"
    print(running.log)
