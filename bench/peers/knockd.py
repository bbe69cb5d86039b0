"""knockd: a sequence of ports is the key."""

from __future__ import annotations

from bench import packets
from bench.bed import PORT, TARGET, UPLINK, fill, source
from bench.peers.contestant import ATTACKER, HERE, Contestant, Hit, Knock, Shape
from bench.processes import Daemon

_PORTS = (7000, 8000, 9000)
_FIRST_GRANT = 15_000
_RING = 4096
_STARTED = "listening on"


class Knockd(Contestant):
    """knockd of Debian's; tuned: by UDP, and with an ipset in the place of a rule for each client."""

    title = "knockd"

    def configure(self) -> None:
        """Write knockd.conf; load a firewall that drops by default."""
        tuning = "tuned" if self.is_tuned else "shipped"
        template = (HERE / f"knockd-{tuning}.conf").read_text()
        head, _, door = template.partition("[door@NUMBER@]")
        ours = ",".join(f"{port}{':udp' if self.is_tuned else ''}" for port in _PORTS)
        doors = [
            ("[door@NUMBER@]" + door).replace("@NUMBER@", str(number)).replace("@SEQUENCE@", sequence)
            for number, sequence in enumerate([*map(self._other, range(self.clients - 1)), ours])
        ]
        merged = self.directory / "knockd.in"
        merged.write_text(head + "".join(doors))
        places = {"LOG": str(self.directory / "knockd.events"), "TARGET": TARGET, "PORT": str(PORT)}
        fill(merged, self.directory / "knockd.conf", places)
        self.bed.run("iptables-restore", text=(HERE / "firewall.rules").read_text())
        if self.is_tuned:
            self.bed.run("ipset", "create", "open", "hash:ip", "timeout", "0")
            match = ["-m", "set", "--match-set", "open", "src"]
            self.bed.run("iptables", "-A", "INPUT", "-p", "tcp", "--dport", str(PORT), *match, "-j", "ACCEPT")

    def _other(self, number: int) -> str:
        kind = ":udp" if self.is_tuned else ""
        return f"{10_000 + number}{kind},{20_000 + number}{kind},{30_000 + number}{kind}"

    def start(self) -> Daemon:
        """Start it in the foreground; its log says when it is ready."""
        argv = ["knockd", "-i", UPLINK, "-c", str(self.directory / "knockd.conf")]
        events, log = self.directory / "knockd.events", self.directory / "knockd.log"
        daemon = Daemon(self.bed, argv, ready=_STARTED, log=log, says=events)
        self.bed.keep(daemon)
        return daemon

    def knock(self) -> Knock:
        """Return the sequence, which is the same each time."""
        return tuple(Hit(port, b"" if self.is_tuned else None) for port in _PORTS)

    def grant_many(self, count: int) -> None:
        """Put into the kernel what its command would have put there."""
        sources = [source(_FIRST_GRANT + number) for number in range(count)]
        if self.is_tuned:
            self.bed.run("ipset", "restore", text="".join(f"add open {one} timeout 0\n" for one in sources))
            return
        lines = [f"-A INPUT -s {one}/32 -p tcp -m tcp --dport {PORT} -j ACCEPT" for one in sources]
        self.bed.run("iptables-restore", "--noflush", text="\n".join(["*filter", *lines, "COMMIT", ""]))

    def client(self) -> list[str]:
        """Knock as a user does."""
        return ["knock", *(["-u"] if self.is_tuned else []), TARGET, *map(str, _PORTS)]

    def junk(self, shape: Shape, captured: list[Knock]) -> list[bytes]:
        """Build junk of the kind that it listens to: its first port, its ports in disorder, or its sequence."""
        del captured  # a knock is the same each time
        ring = []
        for number in range(_RING // 3 * 3):
            sender = source(self.random.randrange(32_000), is_junk=True) if shape.is_spoofed else ATTACKER
            match shape:
                case Shape.REPLAY:
                    port = _PORTS[number % 3]
                case Shape.RANDOM | Shape.SPOOFED:
                    port = _PORTS[0]
                case _:
                    port = self.random.choice(_PORTS)
            ports = (self.random.randrange(1024, 65536), port)
            if self.is_tuned:
                one = packets.udp(self.random.randbytes(16), source=sender, target=TARGET, ports=ports)
            else:
                one = packets.syn(source=sender, target=TARGET, ports=ports, sequence=self.random.randrange(2**32))
            ring.append(one)
        return ring
