"""What the fuzz targets share. It imports nothing of gatekeeper's, which is to be instrumented first."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def instrumented(name: str) -> contextlib.AbstractContextManager[object]:
    """Have what is imported meanwhile watched by the fuzzer, if the target (its ``__name__``) is what runs."""
    if name != "__main__":  # tests/knocks/test_fuzz.py runs the inputs to begin with
        return contextlib.nullcontext()
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # scripts/fuzz has it  # noqa: PLC0415

    watched: contextlib.AbstractContextManager[object] = atheris.instrument_imports(include=["gatekeeper"])
    return watched


def expect(*, holds: bool, what: str) -> None:
    """Stop the fuzzer where something is not as it must be."""
    if not holds:
        raise AssertionError(what)


def changed(original: bytes, data: bytes) -> bytes:
    """Put data over an original: pairs of where, and what to flip there; then it is cut or made longer."""
    raw = bytearray(original)
    for where, what in zip(data[1::2], data[2::2], strict=False):
        raw[where % len(raw)] ^= what
    if data[0] & 0x80:
        return bytes(raw)
    return bytes(raw[: data[0] % (len(raw) + 1)]) if data[0] & 0x40 else bytes(raw) + data[: data[0]]


def fuzz(one_input: Callable[[bytes], None], seeds: Iterable[bytes]) -> None:
    """Fuzz, as libFuzzer's options say; the last argument is the folder of inputs that were found before."""
    import atheris  # noqa: PLC0415

    folder = Path(sys.argv[-1])
    for number, seed in enumerate(seeds):
        one_input(seed)
        if folder.is_dir():
            (folder / f"seed-{number:03}").write_bytes(seed)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
