"""The port sequences of a client: how they are written, and which make no sense.

Pure but for what it is handed: ``read_file`` fetches the content of a ``sequence_file``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from gatekeeper.rules import values
from gatekeeper.rules.document import Document, Entry
from gatekeeper.rules.values import ReadKey
from gatekeeper.settings import Flags, Ports, Sequences, Steps, Transport

FIELDS = ("sequence", "sequence_file", "close_sequence", "within", "flags")
MAX_FILE = 65_536
"""Longest sequence_file in bytes."""
_MOST_STEPS = 32
_FEW_STEPS = 3
_MOST_ONCE = 1_000
MOST_PORTS = 1_024
"""Ports of all sequences together: the kernel compares packets with them one after the other."""
_LONGEST = 300
"""Seconds that a sequence may take. The longer, the fewer can begin at the same time (gatekeeper/steps.py)."""
_STEP = re.compile(r"(?:(tcp|udp)/)?(\d{1,5})(?:[:/](tcp|udp))?", re.ASCII)
_FLAGS = {"fin": 0x01, "syn": 0x02, "rst": 0x04, "psh": 0x08, "ack": 0x10, "urg": 0x20}
_HOW = "such as [7000, 8000/udp, 9000]"


class SequenceReader:
    """Reads the sequences of clients, and compares each with all others."""

    def __init__(self, document: Document, read_file: ReadKey, taken: Sequence[tuple[Ports, str]]) -> None:
        """``taken``: ports that cannot be steps, and what they are."""
        self._doc = document
        self._read_file = read_file
        self._taken = taken
        self._found: dict[Steps, tuple[yaml.Node, str, str]] = {}  # where it stands, what it is, and whose
        self._ports: set[Ports] = set()

    def read(self, fields: Mapping[str, Entry], client: str) -> Sequences | None:
        """Read those of a client; ``None`` if it has none that open."""
        what = f'client "{client}"'
        if "sequence" in fields and "sequence_file" in fields:
            hint = "keep one of them, or make two clients of them"
            self._doc.complain(fields["sequence_file"].key, f"{what} has both sequence and sequence_file", hint)
            return None
        opens: tuple[Steps, ...]
        if "sequence" in fields:
            opens = (self._steps(fields["sequence"], client),)
        elif "sequence_file" in fields:
            opens = tuple(self._from_file(fields["sequence_file"], client))
        else:
            other = next(fields[name] for name in FIELDS if name in fields)
            self._doc.complain(other.key, f"{what} has no sequence that opens", "add sequence:")
            return None
        closes = self._steps(fields["close_sequence"], client) if "close_sequence" in fields else ()
        for one in opens:
            self._compare(fields, one, closes)
        default = Sequences(opens=())
        within = values.seconds(self._doc, fields.get("within"), default=default.within)
        if within is None or not 1 <= within <= _LONGEST:
            self._doc.complain(fields["within"].value, "within goes from 1s to 5m", "most clients are done in 1s")
        flags = self._flags(fields["flags"]) if "flags" in fields else default.flags
        once = "sequence_file" in fields
        return Sequences(opens=opens, closes=closes, within=within or default.within, flags=flags, once=once)

    def finish(self) -> None:
        """Say what becomes of a sequence with which another one begins; complain if there are too many ports."""
        for steps, (node, what, client) in self._found.items():
            for length in range(2, len(steps)):
                shorter = self._found.get(steps[:length])
                if shorter is not None and shorter[2] != client:
                    words = f"{what} begins with the whole {shorter[1]}"
                    self._doc.warn(node, words, "whoever knocks the one knocks the other too, on the way")
        if len(self._ports) > MOST_PORTS:
            node = next(reversed(self._found.values()))[0]
            words = f"the sequences of all clients have {len(self._ports)} ports"
            self._doc.complain(node, words, f"{MOST_PORTS} at most: let sequences use the same ports")

    # -- one sequence

    def _steps(self, field: Entry, client: str) -> Steps:
        if isinstance(field.value, yaml.SequenceNode):
            texts = [(node, self._doc.text(node, f"a step, {_HOW},")) for node in field.value.value]
        else:
            whole = self._doc.text(field.value, f"{field.name}, {_HOW},") or ""
            texts = [(field.value, text) for text in _apart(whole)]
        if not field.value.value:
            self._doc.complain(field.value, f'{field.name} of client "{client}" is empty', f"name ports, {_HOW}")
        found = [self._step(node, text) for node, text in texts if text is not None]
        steps = tuple(one for one in found if one is not None)
        if len(steps) == len(texts) > 0:
            self._keep(field.value, steps, (field.name, client))
        return steps

    def _from_file(self, field: Entry, client: str) -> Iterator[Steps]:
        content = values.file_content(self._doc, field, self._read_file, what="")
        if content is None:
            return
        if len(content) > MAX_FILE:
            self._doc.complain(field.value, f"the file is longer than {MAX_FILE} bytes")
            return
        lines = [line.partition("#")[0].strip() for line in content.decode("ascii", "replace").split("\n")]
        named = [(number, line) for number, line in enumerate(lines, 1) if line]
        if not named:
            self._doc.complain(field.value, "there is no sequence in this file", "write one a line: 7000,8000:udp,9000")
        if len(named) > _MOST_ONCE:
            self._doc.complain(field.value, f"there are {len(named)} sequences in this file", f"{_MOST_ONCE} at most")
            return
        for number, line in named:
            where = f"{field.name}, line {number}"
            found = [self._step(field.value, text, where) for text in _apart(line)]
            steps = tuple(one for one in found if one is not None)
            if len(steps) == len(found):
                self._keep(field.value, steps, (where, client))
                yield steps

    def _step(self, node: yaml.Node, text: str, where: str = "") -> Ports | None:
        """Read a port: ``7000``, ``7000/udp``, or as knockd writes it, ``7000:udp``."""
        behind = f" ({where})" if where else ""
        match = _STEP.fullmatch(text.lower())
        if match is None or (match[1] and match[3]):
            self._doc.complain(node, f'"{text}" is no step{behind}', "write 7000, or 7000/udp")
            return None
        step = Ports(Transport(match[1] or match[3] or Transport.TCP), int(match[2]))
        if not 1 <= step.first <= 65535:
            self._doc.complain(node, f"port {step.first} is out of range{behind}", "ports go from 1 to 65535")
            return None
        for ports, what in self._taken:
            if ports.overlaps(step):
                self._doc.complain(node, f"the step {step} is {what}{behind}", "take a port that nothing here guards")
                return None
        return step

    def _keep(self, node: yaml.Node, steps: Steps, whose: tuple[str, str]) -> None:
        field, client = whose
        what = f'{field} of client "{client}"'
        if len(steps) == 1:
            self._doc.complain(node, f"{what} has one step", "whoever scans the port has knocked: name at least two")
        elif len(steps) > _MOST_STEPS:
            self._doc.complain(node, f"{what} has {len(steps)} steps", f"{_MOST_STEPS} at most")
        elif steps in self._found:
            hint = "each can be used once" if ", line" in field else "one knock cannot mean two things"
            self._doc.complain(node, f"{what} is {self._found[steps][1]} too", hint)
        else:
            self._found[steps] = (node, what, client)
            self._ports.update(steps)
            if len(steps) < _FEW_STEPS or len(set(steps)) < 2:
                hint = f"name at least {_FEW_STEPS} different ports: whoever scans all finds this one by chance"
                self._doc.warn(node, f"{what} is easy to guess", hint)

    def _compare(self, fields: Mapping[str, Entry], opens: Steps, closes: Steps) -> None:
        """Complain if a client's close can never come, or comes with what opens."""
        shorter = min(len(opens), len(closes))
        if opens != closes and shorter and opens[:shorter] == closes[:shorter]:
            words = "close_sequence begins like the sequence that opens, to the end of one of them"
            self._doc.complain(fields["close_sequence"].value, words, "the longer one could never be knocked")

    def _flags(self, field: Entry) -> Flags:
        """Read ``syn,!ack``, or a list of such words."""
        if isinstance(field.value, yaml.SequenceNode):
            texts = [self._doc.text(node, "a TCP flag") or "" for node in field.value.value]
        else:
            texts = (self._doc.text(field.value, "flags") or "").split(",")
        on = off = 0
        for text in texts:
            word = text.strip().lower()
            bit = _FLAGS.get(word.removeprefix("!"))
            if bit is None:
                hint = f"flags are {', '.join(_FLAGS)}, and with ! in front of it: must not be there"
                self._doc.complain(field.value, f'"{text}" is no TCP flag', hint)
                return Flags()
            if word.startswith("!"):
                off |= bit
            else:
                on |= bit
        if on & off:
            self._doc.complain(field.value, "a flag cannot be there and not be there", "name each once")
        return Flags(on, off)


def _apart(line: str) -> list[str]:
    """Take a line apart at its commas, as knockd has them; where there are none, at spaces, as `knock` does."""
    return [text.strip() for text in line.split(",")] if "," in line else line.split() or [""]
