"""What each reason means and what to do about it: the one table of these sentences. Pure.

docs/reasons.md shows it to people who read, ``gatekeeper explain`` to those who ask; tests/test_docs.py holds the
two together. Besides the gate's own reasons (``Reason``) it has what the kernel counts, what only explain says, and
what only the audit trail has.
"""

from __future__ import annotations

from typing import NamedTuple

NO_TAG = "no-tag"
"""The kernel's: no process sees such a datagram."""
CUT_OFF, NO_SERVER_KEY = "cut-off", "no-server-key"
"""Only explain says these: what a capture, or we, would have to have for an answer."""


class Why(NamedTuple):
    """What a reason means, and what to do (empty: nothing)."""

    meaning: str
    advice: str = ""

    @property
    def in_short(self) -> str:
        """The first sentence of the meaning."""
        head, stop, _ = self.meaning.partition(". ")
        return head + "." if stop else self.meaning


WHY: dict[str, Why] = {
    "no-tag": Why(
        "A datagram to a knock port that bears no door tag of these minutes, and does not look like a knock "
        "without one (a plain key, by its length; fwknop's, by its length and first bytes): junk; or a sealed"
        " knock for another server's key, or by a clock that is more than four minutes off. Also what looks "
        "like one, beyond the bounds for those.",
        "Does the profile have this server's key? Set the clock. `run --observe` drops nothing, and says which it is.",
    ),
    "too-many-tagged": Why(
        "More than 4,000 datagrams with a tag from one sender within two seconds: somebody has captured one.",
    ),
    "too-many-strangers": Why(
        "First packets to protected ports beyond 50 a second from one sender, or 1,000 from all (who has just"
        " knocked: 200 from each). An IPv6 sender is its network of 64 bits."
    ),
    "opened": Why(
        "A knock of a client's that opens: its services are opened for the sender (unless `not-applied` is "
        "counted too)."
    ),
    "closed": Why("A knock of a client's that closes: its grants for the sender have ended, and what was open is cut."),
    "granted": Why(
        "A packet of a source that has a grant: the kernel lets it in. Where it meets Python, its grant has "
        "landed meanwhile, and it is given back; so it is not counted."
    ),
    "no-grant": Why(
        "A first packet (a TCP SYN, a UDP datagram) to a protected port from a source without a grant. It was"
        " held for 100 ms, in case its knock was on the way, and then dropped.",
        "Knock first. If you did: did the knock arrive (`opened` in the log), and from the same address?",
    ),
    "no-grant-midstream": Why(
        "Any other TCP packet to a protected port from a source without a grant: a scan, or a connection that"
        " was cut. Where the port is not on this machine (`guard: forward`, `published`), also from one with "
        "a grant: connection tracking does not know the connection.",
        "Connect again.",
    ),
    "unknown-key": Why(
        "What came to the knock port is no client's plain key, no sealed knock to this server, and does not "
        "look like a knock of fwknop's.",
        "Plain: check the key: case, spaces, the file's content. Sealed: does the profile have this server's "
        "key (`gatekeeper pubkey --server`)?",
    ),
    "unknown-client": Why(
        "A sealed knock to this server, by a key that the rules do not have; or what looks like a knock of "
        "fwknop's, and has no client's HMAC (a GPG knock has none that we know, either).",
        "Put the client's public key into rules.yaml, and `gatekeeper reload`. fwknop: compare HMAC key and "
        "kind (`hmac:`).",
    ),
    "wrong-epoch": Why(
        "A sealed knock to this server of another time: its sender's clock is off by what the log says, or it"
        " was recorded then. (More than four minutes off it ends in the kernel, and is not told of.)",
        "Set the clock of the client, or ours.",
    ),
    "bad-mac": Why(
        "The tags of a client, and junk behind them: damaged, or forged by someone who saw a knock.",
        "If it is an honest client's: send it again.",
    ),
    "low-order": Why("A knock whose ephemeral key is of low order: made by a broken or hostile client."),
    "bad-seal": Why(
        "A knock that was not sealed by the client that it claims to be from. One of fwknop's has the "
        "client's HMAC, and cannot be decrypted.",
        "fwknop: compare the key, and the mode (`mode:`, `-M`).",
    ),
    "bad-fields": Why(
        "A sealed knock that asks for something unknown: a client of another version. Of fwknop's: fields "
        "that make no sense; the log says which.",
        "Upgrade the older one.",
    ),
    "old-server-key": Why(
        "Sealed for a key of the server's whose date has passed.",
        "Give the client the new one: `gatekeeper invite`.",
    ),
    "client-expired": Why("The client's `not_after` has passed."),
    "clock-skew": Why(
        "The knock was sent at another time than the rules' `skew` allows; the log says by how much.",
        "Set the clock of the client, or ours.",
    ),
    "replayed": Why(
        "A knock that has counted already, or is more than 10 seconds (fwknop's: 241) older than one that "
        "has; or a one-time sequence that was used before.",
        "If it is an honest client's: is its clock going back? Two devices with one key?",
    ),
    "before-close": Why(
        "A knock that opens, sent before one of the same key that closed. It was held back on the way.",
        "Knock again.",
    ),
    "before-store": Why(
        "A knock that was sent before this server's store was made: there is no telling whether it has counted.",
        "Knock again; if it stays, set the client's clock, or (if the server's was wrong when the store was "
        "made) `gatekeeper reset-floor CLIENT`.",
    ),
    "floor-ahead": Why(
        "Knocks were accepted while the clocks of server and client were wrong, so that new ones look old.",
        "`gatekeeper reset-floor CLIENT`",
    ),
    "source-not-allowed": Why("The knock came from outside the client's `from`."),
    "address-missing": Why(
        "The client must name the address that it knocks from (`bind: required`; fwknop's: `require_source: "
        "true`), and did not.",
        "`gatekeeper knock --source auto`, or `bind: optional`. fwknop: `-a` or `-R` instead of `-s`.",
    ),
    "address-mismatch": Why(
        "The knock names another address than it came from: NAT, or it was caught and sent from elsewhere.",
        "Behind NAT: `--source none` and `bind: optional` (fwknop: `-R`, or `-s`). To open for others: "
        "`for_others: true`.",
    ),
    "bad-address": Why("The knock asks to open for an address that can be nobody's (multicast, loopback, link-local)."),
    "service-not-allowed": Why(
        "We know the client, but it may not open the service that it named, or there is none of that name. Of"
        " fwknop's: no service of this client's guards the port that it asks for.",
        "Add the service to the client in rules.yaml.",
    ),
    "user-not-allowed": Why(
        "A knock of fwknop's that says it is from another user than the client's `user`.",
        "`fwknop -U NAME`, or change `user:`.",
    ),
    "unsupported": Why(
        "A knock of fwknop's that asks for what gatekeeper does not do: to run a command, or to be led to "
        "another host (NAT access); the log says which.",
        "[knock-formats.md](knock-formats.md) says what to do instead.",
    ),
    "outside-hours": Why(
        "The client, or the service, may not be opened at this time (`when:` in the rules).",
        "Knock again then, or change `when:`.",
    ),
    "never": Why(
        "From, or for, a network that the rules never let in (`never:`). Most such packets are dropped by the"
        " kernel and not counted.",
        "Take the network out of `never:`.",
    ),
    "link-local": Why(
        "A knock from a link-local address (fe80::/10, 169.254.0.0/16), which means something on one link "
        "only: a grant would also let in its namesake on every other.",
        "Knock to the server's global or private address.",
    ),
    "bad-checksum": Why("A knock with a wrong UDP checksum: it was damaged on the way.", "Send it again."),
    "malformed": Why("A packet whose headers cannot be read."),
    "fragment": Why("A piece of a packet: the kernel puts them together before it asks, so this one is out of place."),
    "not-guarded": Why(
        "A packet that the rules do not speak of. In a capture that is most of what flows: gatekeeper never "
        "meets it. In the log, it was queued all the same: foreign rules send packets to our queue, or the "
        "rules have just changed.",
        "In the log: give gatekeeper a queue number of its own.",
    ),
    "echo": Why("Not counted: an echo request that bears no knock, and goes on (`via: icmp`)."),
    "step": Why("Not counted: a packet to a port of a sequence that completes none. It goes on, whatever it was."),
    "overloaded": Why(
        "More knocks at once than can be carried out, in all (256) or of one client (128).",
        "Knock again. If one client floods, take it out of the rules.",
    ),
    "not-applied": Why(
        "Counted besides: the knock was right, but the store or the kernel refused the change; the log line "
        "has the cause.",
        "See the log line.",
    ),
    "not-recorded": Why(
        "Counted besides, by `run --capture`: a refused packet that is not in the recording, for there were "
        "too many at once (200 a second), or the disk was slow or full."
    ),
    "queue-overrun": Why("The kernel lost packets that it could not hand over: a flood. Counted, not logged."),
    "internal-error": Why("A packet made the worker fail; it was dropped.", "Please report it: it is a bug."),
    "cut-off": Why(
        "The capture does not have all of a packet that may be a knock, so it cannot be judged. In what `run "
        "--capture` records this is so on purpose: nobody's key is in it.",
        "Capture whole packets (`tcpdump -s 0`). For what `run --capture` has recorded, `recorded` says what "
        "the reason was.",
    ),
    "no-server-key": Why(
        "It may be a sealed knock, and the server's key could not be read.",
        "Run it as root or with sudo, or name with `--state-dir` the folder that has `server.key`.",
    ),
    "revoked": Why("A grant that `gatekeeper revoke` has ended; the note says by whose login."),
    "expired": Why("A grant whose time was up.", "Knock again."),
    "ended": Why("A grant that the rules do not give any more, seen at a start or a reload."),
    "crowded-out": Why(
        "The oldest of more than 4,096 grants that a client has for a service.",
        "Should one client have so many? If not, take it out of the rules.",
    ),
    "reloaded": Why(
        "`run` went over to rules.yaml as it was then; the note says who asked (`by SIGHUP`: a signal, which does"
        " not tell; `watched`: nobody, the file was changed and the rules say `watch: true`; `at a start`: "
        "it was started with other rules than it had last), and what changed.",
    ),
    "reload-failed": Why(
        "Somebody asked for that, and the rules could not be used, or not be loaded: the earlier ones stayed in "
        "force. The note has the first problem.",
        "`gatekeeper check` shows all that is wrong.",
    ),
    "flushed": Why(
        "`gatekeeper flush` or `gatekeeper uninstall` took everything of gatekeeper out of the kernel: the ports "
        "were open from then on.",
        "`gatekeeper run` (or systemctl start gatekeeper) guards again.",
    ),
    "unconfirmed": Why(
        "`run` ended before its ruleset was confirmed (`--confirm`), by itself or because nobody confirmed in"
        " time, or by `gatekeeper confirm --revert`: what was in the kernel before is put back. That may be "
        "nothing, and the ports open.",
        "`gatekeeper confirm` in time, when you are in.",
    ),
    "floor-reset": Why("`gatekeeper reset-floor` set a client's replay floors back to the time of then."),
}
