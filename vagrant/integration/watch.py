"""Runs on the stranger: tries to find the server's guarded port until its standard input ends, then says what it saw.

It scans with nmap, one scan after the other, and connects ten times a second, over IPv4 and IPv6. The unguarded port
beside it tells when the server is there at all. What it prints is one JSON object; times are seconds since it began.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

GUARDED, UNGUARDED = 22, 2200
PAUSES = {GUARDED: 0.1, UNGUARDED: 2.0}
"""Seconds between two connects, over each IP version. What is unguarded costs sshd a process each time."""
WAIT = 1.0
"""Seconds for an answer."""


class Watch:
    """What was seen so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.is_over = threading.Event()
        self.seen: dict[str, Any] = {"scans": 0, "found": [], "tries": 0, "longest_pause": 0.0}
        self.up: list[float] = []

    def now(self) -> float:
        """Return the seconds since it began."""
        return round(time.monotonic() - self.began, 2)

    def scan(self, address: str) -> None:
        """Scan with nmap again and again."""
        argv = ["nmap", "-n", "-Pn", "--max-retries", "0", "--max-rtt-timeout", "1s", "-oG", "-"]
        argv += ["-p", str(GUARDED), *(["-6"] if ":" in address else []), address]
        while not self.is_over.is_set():
            begun = self.now()
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            self.seen["scans"] += done.returncode == 0
            if f"{GUARDED}/open/" in done.stdout:
                self.seen["found"].append([begun, f"nmap {address}"])
            self.is_over.wait(0.5)

    def connect(self, address: str) -> None:
        """Connect again and again, without waiting for an answer before the next."""
        poller, due, last = select.epoll(), dict.fromkeys(PAUSES, 0.0), self.now()
        pending: dict[int, tuple[socket.socket, float, int]] = {}
        while not self.is_over.is_set():
            for number, _ in poller.poll(min(PAUSES.values()) / 4):
                self._answered(*pending.pop(number), address)
            moment = self.now()
            for number in [number for number, (_, begun, _) in pending.items() if moment - begun > WAIT]:
                pending.pop(number)[0].close()
            for port, pause in PAUSES.items():
                if moment < due[port]:
                    continue
                due[port] = moment + pause
                one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
                one.setblocking(False)
                one.connect_ex((address, port))
                pending[one.fileno()] = (one, moment, port)
                poller.register(one.fileno(), select.EPOLLOUT)
                if port == GUARDED:
                    self.seen["tries"] += 1
                    self.seen["longest_pause"] = max(self.seen["longest_pause"], round(moment - last, 2))
                    last = moment

    def away(self) -> tuple[float, float]:
        """Return from when to when the unguarded port was away: the longest time between two connects that it took."""
        up = sorted(self.up)
        return max(itertools.pairwise(up), key=lambda pair: pair[1] - pair[0], default=(0.0, 0.0))

    def _answered(self, one: socket.socket, begun: float, port: int, address: str) -> None:
        is_open = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        one.close()
        if port == UNGUARDED:
            if is_open:
                self.up.append(begun)
        elif is_open:
            self.seen["found"].append([begun, f"connect {address}"])


def main(addresses: list[str]) -> None:
    """Watch these addresses until standard input ends."""
    watch = Watch()
    threads = [threading.Thread(target=what, args=[one]) for one in addresses for what in (watch.scan, watch.connect)]
    for thread in threads:
        thread.start()
    print("watching", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        sys.stdin.read()
    watch.is_over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(watch.seen | {"seconds": watch.now(), "away": watch.away()}))


if __name__ == "__main__":
    main(sys.argv[1:])
