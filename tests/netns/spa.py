"""Debian's client of fwknop, in the client's namespace, with keys of its own."""

from __future__ import annotations

from gatekeeper.demo.server import Gatekeeper
from tests.netns.device import rules_for, server_key
from tests.netns.site import CLIENT, SERVER, Site, wait_until

KEY = "D6hWQeWD/RoogFN7SyNfItUUMCAdeM39BuP6D9xsM04="
HMAC_KEY = "7xOt/PCEMm1g03mpkDs4Wj635RAOq/uQDEDfiRqLVWvBjCdjXVsX712rw3udjdwaBNh0eRGPdCiIE92SSNAEwQ=="
BY_KEYS = ("--key-base64-rijndael", KEY, "--use-hmac", "--key-base64-hmac", HMAC_KEY)
KEYS = f"key_base64: {KEY}, hmac_key_base64: {HMAC_KEY}"


def start(
    site: Site,
    fields: str = "services: [ssh]",
    keys: str = KEYS,
    *,
    knock: str = "{}",
    firewall: str = "{}",
    refuse: str = "silent",
    others: dict[str, str] | None = None,
) -> Gatekeeper:
    """Run a server, whose store is not new, that knows the client "old", and others."""
    if not site.state.exists():
        server_key(site)
    clients = {"old": f"{{fwknop: {{{keys}}}, {fields}}}"} | (others or {})
    site.write_rules(f"{rules_for(**clients)}knock: {knock}\nfirewall: {firewall}\nrefuse: {refuse}\n")
    return site.run()


def fwknop(
    site: Site,
    *options: str,
    keys: tuple[str, ...] = BY_KEYS,
    access: str = "tcp/2222",
    who: tuple[str, ...] = ("-a", CLIENT[4]),
) -> bytes:
    """Knock; return what was sent. With ``-T`` among the options, nothing is."""
    saved = site.directory / "knock"
    saved.unlink(missing_ok=True)
    asks = ("-A", access) if access else ()
    argv = ["fwknop", *asks, *who, "-D", SERVER[4], *keys, *options, "-B", str(saved), "--no-save-args", "--no-rc-file"]
    done = site.inside(site.client, "env", f"HOME={site.directory}", *argv)
    assert done.returncode == 0, done.stdout + done.stderr
    return saved.read_bytes().strip()


def granted(site: Site, version: int = 4, service: str = "ssh") -> list[str]:
    """List whom the kernel lets in."""
    return sorted(site.members(service, version))


def refused(running: Gatekeeper, reason: str, *, times: int = 1) -> None:
    """Wait until the log has refusals for a reason; no knock was refused otherwise."""
    wait_until(lambda: running.log.count(f"refused reason={reason}") >= times)
    assert running.log.count(f"refused reason={reason}") == times, running.log
