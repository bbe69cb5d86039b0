"""``gatekeeper knock --format fwknop``: whom to knock at, and what to say. Imported only where it is asked for."""

from __future__ import annotations

import os

from gatekeeper.client import fwknoprc, spa
from gatekeeper.client.fwknoprc import Settings
from gatekeeper.client.profile import DEFAULT_PORT, Profile
from gatekeeper.errors import ClientError, UsageError
from gatekeeper.fwknop.kinds import DIGESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace as Options


def target(options: Options) -> tuple[Profile, spa.FwknopMaker]:
    """Find out whom to knock at, and with which keys.

    Raises:
        ClientError: there are none, or the stanza asks for what we cannot do.
    """
    settings = _settings(options)
    spa.refuse_what_we_cannot(settings)
    keys = spa.read_keys(settings if options.key_file is None else fwknoprc.keys(options.key_file))
    access = options.access or settings.get("ACCESS")
    if access is None:
        raise ClientError("it is not said what to open", "name it: --access tcp/22, or ACCESS in the stanza")
    address, warning = _address(options, settings)
    message = spa.message(
        access.lower(),
        address,
        _timeout(options, settings),
        user=settings.get("SPOOF_USER") or _user(),
        digest=spa.word(settings, "DIGEST_TYPE", DIGESTS, "sha256"),
    )
    maker = spa.FwknopMaker(keys, message)
    if warning is not None:
        maker.warnings[warning] = None
    host = options.target if options.stanza is not None else settings.get("SPA_SERVER") or options.target
    return Profile(host=host, server_key=b"", identity="", port=_port(options, settings)), maker


def _settings(options: Options) -> Settings:
    """Read the stanza that is named, or that is called like the target; nothing, where keys come from elsewhere."""
    file, name = options.rc or fwknoprc.default_path(), options.stanza or options.target
    is_named = options.rc is not None or options.stanza is not None or options.key_file is None
    found = fwknoprc.stanza(file, name) if is_named or os.path.lexists(file) else None
    if found is None and options.key_file is None:
        hint = "name one with -n NAME, another file with --rc FILE, or the keys alone with --key-file FILE"
        raise ClientError(f"there is no stanza {name!a} in {file}", hint)
    if found is None and options.stanza is not None:
        raise ClientError(f"there is no stanza {name!a} in {file}", "its names stand in brackets")
    return found or Settings(options.key_file, {})


def _address(options: Options, settings: Settings) -> tuple[str, str | None]:
    """Return the address to open for, and a warning if it is not what the stanza asks for."""
    if options.source == "none":
        return spa.ANYBODY, None
    if options.source != "auto":
        if ":" in options.source:
            raise UsageError("--source: fwknop's format has IPv4 addresses only")
        return options.source, None
    asked = settings.get("ALLOW_IP") or "source"
    if asked.lower() == "resolve" or settings.is_on("RESOLVE_IP_HTTPS") or settings.is_on("RESOLVE_IP_HTTP"):
        words = "nobody is asked for our address: the server opens for the one that it sees (--source names another)"
        return spa.ANYBODY, words
    if asked.lower() == "source":
        return spa.ANYBODY, None
    from ipaddress import IPv4Address

    try:
        return str(IPv4Address(asked)), None
    except ValueError:
        words = f"ALLOW_IP in {settings.file}: {asked!a} is no IPv4 address"
        raise ClientError(words, "write an address, or: source") from None


def _timeout(options: Options, settings: Settings) -> int | None:
    if options.ttl is not None:
        from gatekeeper import duration

        try:
            seconds = duration.parse(options.ttl)
        except ValueError as error:
            raise UsageError(f"--ttl: {error}", duration.HINT) from None
        if seconds is None:
            raise UsageError("--ttl: fwknop's format has no forever", "write a time, such as 1h")
        return seconds
    asked = settings.get("FW_TIMEOUT")
    if asked is not None and not (asked.isascii() and asked.isdecimal() and len(asked) <= 9):
        raise ClientError(f"FW_TIMEOUT in {settings.file}: {asked!a} is no number of seconds")
    return None if asked is None else int(asked)


def _port(options: Options, settings: Settings) -> int:
    if options.port is not None:
        return int(options.port)
    asked = settings.get("SPA_SERVER_PORT")
    if asked is None:
        return DEFAULT_PORT
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 5 and 1 <= int(asked) <= 65535):
        raise ClientError(f"SPA_SERVER_PORT in {settings.file}: {asked!a} is no port")
    return int(asked)


def _user() -> str:
    """Name the user as fwknop does."""
    names = (os.environ.get(name) for name in ("SPOOF_USER", "LOGNAME", "USER"))
    return next((name for name in names if name), "NO_USER")
