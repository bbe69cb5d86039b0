"""What is asked over HTTP, and what is answered: one request for each connection, and one address. Pure."""

from __future__ import annotations

LONGEST = 8192
"""Bytes of a request. Prometheus sends some 300."""
PATH = "/metrics"
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WORDS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_BODIES = {
    400: "not a request for HTTP/1.x\n",
    404: f"there is {PATH} here, and nothing else\n",
    405: "only GET\n",
    503: "the figures could not be gathered in time: see the log of gatekeeper\n",
}


def status_of(head: bytes) -> int | None:
    """Say with which status what has come so far is answered: 200, with the figures; ``None``: more must come."""
    if b"\r\n\r\n" not in head and b"\n\n" not in head:
        return 400 if len(head) >= LONGEST else None
    words = head.partition(b"\n")[0].rstrip(b"\r").split(b" ")
    if len(words) != 3 or words[2] not in {b"HTTP/1.0", b"HTTP/1.1"}:
        return 400
    method, target, _ = words
    if target.partition(b"?")[0] != PATH.encode():
        return 404
    return 200 if method == b"GET" else 405


def answer(status: int, text: bytes = b"") -> bytes:
    """Write an answer; ``text`` is that of 200."""
    body = text if status == 200 else _BODIES[status].encode()
    kind = _TYPE if status == 200 else "text/plain; charset=utf-8"
    lines = [
        f"HTTP/1.1 {status} {_WORDS[status]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        *(["Allow: GET"] if status == 405 else []),
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
