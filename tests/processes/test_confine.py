"""What a confined process cannot do any more."""

from __future__ import annotations

import json
import subprocess
import sys

_PROBE = """
import json, os, socket, sys, threading, time
from gatekeeper.processes.confine import confine

r, w = os.pipe()
one, other = socket.socketpair()
seen = {}

def attempt(name, act):
    try:
        act()
        seen[name] = "done"
    except OSError as error:
        seen[name] = error.strerror

go = threading.Event()
def in_thread():
    go.wait()
    attempt("a file in an older thread", lambda: open("/etc/passwd"))
older = threading.Thread(target=in_thread)
older.start()
confine()
go.set()
older.join()
attempt("read a file", lambda: open("/etc/passwd"))
attempt("write a file", lambda: os.open("/tmp/confined", os.O_WRONLY | os.O_CREAT))
attempt("a socket", socket.socket)
attempt("connect", lambda: one.connect("/nonexistent"))
attempt("fork", os.fork)
attempt("exec", lambda: os.execv(sys.executable, [sys.executable, "-c", "print(1)"]))
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("remove", lambda: os.unlink("/nonexistent"))
attempt("namespace", lambda: os.unshare(0) if hasattr(os, "unshare") else os.setuid(0))
attempt("list", lambda: os.listdir("/"))
def usual():
    one.send(b"x")
    assert other.recv(1) == b"x"
    os.write(w, b"y")
    assert os.read(r, 1) == b"y"
    os.urandom(8)
    time.time(), time.sleep(0.001), bytearray(10_000_000)
attempt("its work", usual)
print(json.dumps(seen))
"""


def test_a_confined_process_opens_nothing_runs_nothing_and_still_does_its_work() -> None:
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen.pop("its work") == "done"
    assert set(seen.values()) == {"Operation not permitted"}, seen
    assert len(seen) == 11


_WITHOUT_SECCOMP = """
import ctypes, os, sys

library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))
number = library.seccomp_syscall_resolve_name(b"seccomp")
library.seccomp_rule_add(context, ctypes.c_uint32(0x00050001), ctypes.c_int(number), ctypes.c_uint(0))
assert library.seccomp_load(context) == 0
code = "from gatekeeper.processes.confine import confine\\ntry:\\n confine()\\nexcept Exception as e:\\n print(e)"
os.execv(sys.executable, [sys.executable, "-c", code])
"""


def test_threads_that_are_left_out_where_seccomp_is_forbidden_are_said() -> None:
    """As under a unit whose SystemCallFilter= has no ``seccomp``."""
    done = subprocess.run([sys.executable, "-c", _WITHOUT_SECCOMP], capture_output=True, text=True, check=False)
    assert done.stdout == "only the main thread of the worker is confined\n", done.stderr
