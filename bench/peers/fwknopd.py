"""What both variants of fwknopd share: keys, the client, and the firewall that it opens."""

from __future__ import annotations

import base64
import random
import string
import time
from abc import abstractmethod
from collections import deque

from bench.bed import KNOCK_PORT, PORT, TARGET, UPLINK, fill, source
from bench.peers.contestant import HERE, Contestant, Hit, Knock
from bench.processes import Daemon

_FIRST_GRANT = 15_000
_ALPHABET = (string.ascii_letters + string.digits + "+/").encode()
_FAR = 86_400


class Fwknopd(Contestant):
    """fwknopd of Debian's, with HMAC, as its manual recommends."""

    files: str
    """How the files of this variant are called."""
    started: str
    """What it says last before it listens."""

    def configure(self) -> None:
        """Write fwknopd.conf, access.conf and the client's fwknoprc; load a firewall that drops by default."""
        chance = random.Random(2)

        def key(size: int) -> str:
            return base64.b64encode(chance.randbytes(size)).decode()

        stanzas = []
        template = (HERE / "fwknopd-access.conf").read_text()
        for _ in range(self.clients):
            mine = {"KEY": key(32), "HMAC_KEY": key(64)}
            text = template
            for name, value in mine.items():
                text = text.replace(f"@{name}@", value)
            stanzas.append(text)
        access = self.directory / "access.conf"
        access.write_text("\n".join(stanzas))
        access.chmod(0o600)
        run = self.directory / "run"
        run.mkdir(mode=0o700)
        tuning = "tuned" if self.is_tuned else "shipped"
        places = {"INTERFACE": UPLINK, "RUN": str(run), "KNOCK_PORT": str(KNOCK_PORT)}
        fill(HERE / f"{self.files}-{tuning}.conf", self.directory / "fwknopd.conf", places)
        fill(HERE / "fwknop-client.conf", self.directory / "fwknoprc", {**mine, "PORT": str(PORT), "TARGET": TARGET})
        self.bed.run("iptables-restore", text=(HERE / "firewall.rules").read_text())
        self.open_knock_port()
        self._ahead: deque[Knock] = deque()

    @abstractmethod
    def open_knock_port(self) -> None:
        """Let knocks through the firewall, where that is needed."""

    def start(self) -> Daemon:
        """Start fwknopd in the foreground, which is how it says when it is ready."""
        argv = ["fwknopd", "-f", "-c", str(self.directory / "fwknopd.conf"), "-a", str(self.directory / "access.conf")]
        daemon = Daemon(self.bed, argv, ready=self.started, log=self.directory / "fwknopd.log")
        self.bed.keep(daemon)
        return daemon

    def make_ready(self, knocks: int) -> None:
        """Have fwknop, the client, make those that are missing; they are good for two minutes, longer than a bed."""
        self._make(max(knocks - len(self._ahead), 0))

    def _make(self, knocks: int) -> None:
        saved = self.directory / "knocks"
        saved.write_bytes(b"")
        argv = [*self._fwknop(), "--test", "--save-packet", str(saved), "--save-packet-append"]
        for _ in range(knocks):
            self.bed.run(*argv)
        self._ahead.extend((Hit(KNOCK_PORT, line),) for line in saved.read_bytes().split())

    def _fwknop(self) -> list[str]:
        arguments = ["--rc-file", str(self.directory / "fwknoprc"), "--named-config", "bench"]
        # it insists on a file in a home; this one is no user's
        return ["env", f"HOME={self.directory}", "fwknop", *arguments]

    def knock(self) -> Knock:
        """Take a knock that was made ahead, or make one."""
        if not self._ahead:
            self._make(1)
        return self._ahead.popleft()

    def grant_many(self, count: int) -> None:
        """Add rules like its own to its chain: it adopts those that bear an expiry of its form (fwknopd(8))."""
        until = int(time.time()) + _FAR
        lines = [
            f"-A FWKNOP_INPUT -s {source(_FIRST_GRANT + number)}/32 -p tcp -m tcp --dport {PORT} "
            f"-m comment --comment _exp_{until} -j ACCEPT"
            for number in range(count)
        ]
        self.bed.run("iptables-restore", "--noflush", text="\n".join(["*filter", *lines, "COMMIT", ""]))

    def client(self) -> list[str]:
        """Knock as a user does."""
        return self._fwknop()

    def noise(self, length: int) -> bytes:
        """Make base64 at random."""
        return bytes(self.random.choices(_ALPHABET, k=length))
