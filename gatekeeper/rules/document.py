"""YAML files as nodes that know their place, read without trusting them.

Pure. PyYAML parses; nothing is ever constructed from what it finds, so a tag cannot run code. Aliases are
refused (they are how a small file explodes into a large one), and nesting is bounded. Scalars are taken as
they are written: ``open: 0123`` is the key ``0123``, whatever YAML thinks of octal numbers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import yaml

from gatekeeper import older
from gatekeeper.escaping import escape
from gatekeeper.problems import Problem, RulesError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 16
MAX_PROBLEMS = 100

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: 10 times faster
_TAG = "tag:yaml.org,2002:"
_HARMLESS_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TELL_EVERY = 500
"""Events."""
Tell = Callable[[float], None]
"""Takes how much is read, from 0.0 to 1.0."""
_NodeEvent = yaml.ScalarEvent | yaml.CollectionStartEvent | yaml.AliasEvent


class Place(NamedTuple):
    """Where something stands; lines count from 1."""

    file: str
    line: int


class _Named(io.StringIO):
    """A text that PyYAML asks for its name, so that each node knows its file."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``key: value`` of a mapping."""

    key: yaml.ScalarNode
    value: yaml.Node

    @property
    def name(self) -> str:
        """The key as it is written."""
        return str(self.key.value)

    @staticmethod
    def value_of(entry: Entry | None) -> yaml.Node | None:
        """Return the value of an entry that may be missing."""
        return None if entry is None else entry.value


class Document:
    """A file, with those that it includes, and what is wrong there. Readers return ``None`` where they complained."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._folders = {file: ""}
        self._file = file
        """The one that is being parsed, and then the first."""

    def include(self, file: str, folder: str, text: bytes) -> yaml.Node | None:
        """Parse one more file. ``folder``: where its relative paths count from, seen from that of the first."""
        first, self._file = self._file, file
        self._folders[file] = folder
        try:
            return self.parse(text)
        finally:
            self._file = first

    def path(self, node: yaml.Node, name: str) -> str:
        """Return a path that stands at a node as it is seen from the folder of the first file."""
        folder = self._folders.get(_file_of(node), "")
        return f"{folder}/{name}" if folder and not name.startswith("/") else name

    def parse(self, text: bytes, tell: Tell = lambda _: None) -> yaml.Node | None:
        """Parse the text into nodes; complain and return ``None`` if it cannot be. ``tell``: how far it is."""
        decoded = self._decode(text)
        if decoded is None:
            return None
        try:
            return self._compose(decoded, tell)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            at_tab = "".join(decoded.split("\n")[line - 1 : line])[column - 1 : column] == "\t"
            hint = "indent with spaces, not with tabs" if at_tab else error.context
            self._add(line, column, f"not YAML: {error.problem or error.context}", hint)
            return None
        except yaml.YAMLError as error:
            self._add(1, 1, f"not YAML: {error}", None)
            return None

    def _decode(self, text: bytes) -> str | None:
        if len(text) > MAX_BYTES:
            self.complain(None, f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
            return None
        try:
            decoded = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            column = len(text[text.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
            self._add(line, column, "this byte is not UTF-8", "save the file as UTF-8")
            return None
        if forbidden := yaml.reader.Reader.NON_PRINTABLE.search(decoded):
            line = decoded.count("\n", 0, forbidden.start()) + 1
            column = forbidden.start() - decoded.rfind("\n", 0, forbidden.start())
            self._add(line, column, f"not YAML: the character {forbidden[0]!a}", "take the character out")
            return None
        return decoded

    def _compose(self, text: str, tell: Tell) -> yaml.Node | None:
        """Build nodes from PyYAML's events; complain and return ``None`` at the first that is not allowed.

        PyYAML's own composer would need a second pass, and calls itself for each level of nesting.
        """
        root: yaml.Node | None = None
        above: list[yaml.CollectionNode] = []
        for number, event in enumerate(yaml.parse(_Named(text, self._file), Loader=_Loader)):
            if number % _TELL_EVERY == 0 and event.start_mark is not None:
                tell(event.start_mark.index / (len(text) + 1))
            if isinstance(event, yaml.CollectionEndEvent):
                done = above.pop()
                done.end_mark = event.end_mark
                if isinstance(done, yaml.MappingNode):
                    done.value = list(zip(done.value[::2], done.value[1::2], strict=True))
                continue
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                mark: Any = event.start_mark
                words = "expected a single document in the stream", "but found another document"
                raise yaml.composer.ComposerError(words[0], root.start_mark, words[1], mark)
            if not isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.AliasEvent)):
                continue
            if not self._is_harmless(event, depth=len(above)) or isinstance(event, yaml.AliasEvent):
                return None
            node = _node(event)
            if above:
                above[-1].value.append(node)
            else:
                root = node
            if isinstance(node, yaml.CollectionNode):
                above.append(node)
        return root

    def _is_harmless(self, event: _NodeEvent, *, depth: int) -> bool:
        if isinstance(event, yaml.AliasEvent):
            self.complain(event, f"aliases (*{event.anchor}) are not allowed", "write the value out")
            return False
        if depth >= MAX_DEPTH and isinstance(event, yaml.CollectionStartEvent):
            self.complain(event, f"nested more than {MAX_DEPTH} levels deep")
            return False
        if event.tag is not None and event.tag not in _HARMLESS_TAGS:
            self.complain(event, f'the tag "{event.tag}" is not allowed', "take the tag (the word behind !) out")
            return False
        return True

    # -- what is wrong

    def complain(self, where: yaml.Node | yaml.Event | None, message: str, hint: str | None = None) -> None:
        """Note a problem at a node's place."""
        self.problems.append(self._problem(where, message, hint))

    def warn(self, where: yaml.Node | None, message: str, hint: str | None = None) -> None:
        """Note what is legal but unwise."""
        self.problems.append(self._problem(where, message, hint)._replace(is_warning=True))

    def complain_of_file(self, file: str, message: str, hint: str | None = None) -> None:
        """Note a problem with a whole file that is included."""
        self.problems.append(Problem(escape(file), 1, 1, _printable(message), hint))

    def _problem(self, where: yaml.Node | yaml.Event | None, message: str, hint: str | None) -> Problem:
        mark = where.start_mark if where is not None else None
        file, line, column = (mark.name, mark.line + 1, mark.column + 1) if mark else (self._file, 1, 1)
        return Problem(escape(file), line, column, _printable(message), hint)

    def _add(self, line: int, column: int, message: str, hint: str | None) -> None:
        self.problems.append(Problem(escape(self._file), line, column, _printable(message), hint))

    def did_you_mean(self, name: str, known: tuple[str, ...]) -> str | None:
        """Build a hint, unless there are so many problems that this one is not shown (a search takes a while)."""
        return did_you_mean(name, known) if len(self.problems) < MAX_PROBLEMS else None

    @property
    def failed(self) -> bool:
        """Whether anything but warnings was noted."""
        return any(not problem.is_warning for problem in self.problems)

    def error(self) -> RulesError:
        """Everything that was noted, file by file, in the order of each."""
        numbers = {escape(file): number for number, file in enumerate(self._folders)}

        def place(problem: Problem) -> tuple[int, int, int]:
            return numbers.get(problem.file, len(numbers)), problem.line, problem.column

        ordered = sorted(self.problems, key=place)
        errors = [problem for problem in ordered if not problem.is_warning]
        warnings = [problem for problem in ordered if problem.is_warning]
        shown = errors[:MAX_PROBLEMS] + warnings[: max(0, MAX_PROBLEMS - len(errors))]
        return RulesError(sorted(shown, key=place), count=len(errors))

    # -- readers

    def entries(self, node: yaml.Node | None, what: str) -> Iterator[Entry]:
        """Yield the entries of a mapping; complain about anything else and about doubled keys."""
        if not isinstance(node, yaml.MappingNode):
            if not is_empty(node):
                self.complain(node, f"{what} must be a mapping (name: value), not {kind(node)}")
            return
        seen: dict[str, yaml.ScalarNode] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.complain(key, f"a key of {what} must be a word, not {kind(key)}")
            elif key.value in seen:
                first = f"first in {_place(seen[key.value], from_=key)}"
                self.complain(key, f'"{key.value}" stands twice in {what} ({first})')
            else:
                seen[key.value] = key
                yield Entry(key, value)

    def fields(self, node: yaml.Node | None, what: str, known: tuple[str, ...]) -> dict[str, Entry]:
        """Read a mapping whose keys are known; complain about all others."""
        fields: dict[str, Entry] = {}
        for entry in self.entries(node, what):
            name = older.renamed(entry.name)
            if name in fields:
                self.complain(entry.key, f'"{entry.name}" is an older name of "{name}", which stands in {what} too')
            elif name in known:
                fields[name] = entry
                if name != entry.name:
                    self.warn(entry.key, older.words(entry.name), "rename it: both mean the same")
            else:
                self.complain(entry.key, f'unknown key "{entry.name}" in {what}', self.did_you_mean(entry.name, known))
        return fields

    def merged(self, sections: Sequence[Entry], what: str) -> Entry | None:
        """Make one section of those that several files have; complain about what is no section."""
        if len(sections) < 2:
            return next(iter(sections), None)
        merged = yaml.MappingNode("", [], sections[0].key.start_mark, sections[0].key.end_mark)
        for section in sections:
            if isinstance(section.value, yaml.MappingNode):
                merged.value += section.value.value
            elif not is_empty(section.value):
                list(self.entries(section.value, what))  # complains
        return Entry(sections[0].key, merged)

    def text(self, node: yaml.Node, what: str) -> str | None:
        """Read a scalar as it is written."""
        if isinstance(node, yaml.ScalarNode) and not is_empty(node):
            return str(node.value)
        self.complain(node, f"{what} must be a word, not {kind(node)}")
        return None

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node] | None:
        """Read a list."""
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        hint = f"write it as a list: [{node.value}]" if isinstance(node, yaml.ScalarNode) and node.value else None
        self.complain(node, f"{what} must be a list, not {kind(node)}", hint)
        return None


def _node(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> yaml.Node:
    """Make the node of an event: a collection without what is in it, a scalar with a tag of which only null counts."""
    marks: Any = event.start_mark, event.end_mark  # libyaml's marks are of a class of their own
    if isinstance(event, yaml.ScalarEvent):
        is_null = event.tag is None and event.implicit[0] and event.value in _NULLS
        tag = event.tag or _TAG + ("null" if is_null else "str")
        return yaml.ScalarNode(tag, event.value, *marks)
    make = yaml.MappingNode if isinstance(event, yaml.MappingStartEvent) else yaml.SequenceNode
    return make(event.tag or "", [], *marks)


def place_of(node: yaml.Node) -> Place:
    """Return where a node stands."""
    return Place(_file_of(node), node.start_mark.line + 1)


def _file_of(node: yaml.Node) -> str:
    return str(node.start_mark.name)


def _place(node: yaml.Node, *, from_: yaml.Node) -> str:
    """Name the place of a node, seen from another."""
    file, line = place_of(node)
    return f"line {line}" if file == _file_of(from_) else f"{file}, line {line}"


def is_empty(node: yaml.Node | None) -> bool:
    """Whether there is nothing, or a null, where a value could stand."""
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null")


def kind(node: yaml.Node | None) -> str:
    """Name what a node is, for a message."""
    if is_empty(node):
        return "nothing"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f'the word "{node.value}"' if node is not None else "nothing"


def did_you_mean(name: str, known: tuple[str, ...]) -> str | None:
    """Build a hint that names the nearest known word, or all of them."""
    if close := get_close_matches(name, known, n=1):
        return f'did you mean "{close[0]}"?'
    return f"known are: {', '.join(known)}" if known else None


def _printable(message: str) -> str:
    short = message if len(message) <= 300 else message[:297] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)
