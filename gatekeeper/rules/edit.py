"""Puts a client into the text of a rules file, or takes one out, and leaves every other byte as it is. Pure.

Nodes know where they stand, so text is cut and pasted between them; nothing is written anew, as a library that reads
YAML and writes it again does. What comes out is read again and compared with what was asked for: where a file is laid
out so that it cannot be done, that is an error, and never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

import yaml

from gatekeeper.rules.document import Document, is_empty

Value = str | Sequence["Value"] | Mapping[str, "Value"] | None
"""What stands in a file: words as they are written, lists, mappings."""
Pair = tuple[yaml.ScalarNode, yaml.Node]
_SECTION = "clients"
_STEP = 2
"""Spaces by which a file indents, where it does not tell."""
_PLAIN = re.compile(r"[A-Za-z0-9+/][A-Za-z0-9+/=_.@-]*", re.ASCII)
_NONE = "it does not look like NAME: {key: KEY, services: [NAME, ...]}"
_ODD = "its layout is not one that is understood"
_NULLS = frozenset({"null", "Null", "NULL"})
_REST = re.compile(r"[ \t]*(#[^\n]*)?(\r?\n|\Z)")
"""What may follow on a line behind the last thing of it that means something."""
_REST_IN_FLOW = re.compile(r"(?:[ \t]*(,))?([ \t]*#[^\r\n]*)?[ \t]*(\r?\n|\Z)")
_JOINED = re.compile(
    r"^\s*[A-Za-z0-9][A-Za-z0-9_.@-]*: \{key: [A-Za-z0-9+/]{43}=, services: \[[^\]]*\]\}\s*$", re.MULTILINE
)


class CannotEditError(Exception):
    """The text is laid out in a way that is not understood here; the message says what is."""


def add(text: str, name: str, fields: Mapping[str, Value]) -> str:
    """Return the text with one more client, behind all others.

    Raises:
        CannotEditError: it cannot be done.
    """
    root = _parse(text)
    pair = _section(text, root)
    if pair is None:
        new = _with_section(text, root, name, fields)
    elif is_empty(pair[1]) or not pair[1].value:
        new = _with_first(text, root, pair, _entry(name, fields))
    elif text[pair[1].start_mark.index] == "{":
        new = _into_flow(text, pair[1].value, f"{_scalar(name)}: {flow(fields)}")
    else:
        new = _behind_last(text, pair[1].value, name, fields)
    _require(root, new, {**_clients(root), name: dict(fields)})
    return new


def remove(text: str, name: str) -> str:
    """Return the text without a client. Comments on lines of its own go with it, those above it stay.

    Raises:
        CannotEditError: it cannot be done.
    """
    root = _parse(text)
    pair = _section(text, root)
    pairs: list[Pair] = [] if pair is None or is_empty(pair[1]) else list(pair[1].value)
    number = next((number for number, (key, _) in enumerate(pairs) if key.value == name), None)
    if pair is None or number is None:
        raise CannotEditError("it is not in this file")
    out = _out_of_flow if text[pair[1].start_mark.index] == "{" else _out_of_block
    new = out(text, pairs, number)
    _require(root, new, {one: its for one, its in _clients(root).items() if one != name})
    return new


def flow(value: Value) -> str:
    """Write a value in one line, as YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(name)}: {flow(its)}" for name, its in value.items()) + "}"
    if isinstance(value, str) or value is None:
        return "~" if value is None else _scalar(value)
    return "[" + ", ".join(map(flow, value)) + "]"


def read_entry(text: str) -> tuple[str, dict[str, Value]]:
    """Read one client as it stands in a rules file, or in what ``gatekeeper join`` prints; return its name and fields.

    Raises:
        ValueError: it is none; the message says why, and repeats nothing of it.
    """
    joined = _JOINED.findall(text)
    if len(joined) > 1:
        raise ValueError("there are several clients in it: give one at a time")
    document = Document("")
    root = document.parse((joined[0] if joined else text).encode("utf-8", "replace"))
    pairs: list[Pair] = root.value if isinstance(root, yaml.MappingNode) and not document.failed else []
    if len(pairs) > 1:
        raise ValueError("there are several clients in it: give one at a time")
    name, fields = next(((key.value, plain(its)) for key, its in pairs if isinstance(key, yaml.ScalarNode)), ("", ""))
    if not isinstance(fields, dict):
        raise ValueError(_NONE)  # noqa: TRY004  (of a text that a user gave)
    return str(name), fields


def plain(node: yaml.Node | None) -> Value:
    """Return what a node says, without its place.

    Raises:
        ValueError: a field stands twice.
    """
    if isinstance(node, yaml.MappingNode):
        found = {str(key.value): plain(value) for key, value in node.value}
        if len(found) < len(node.value):
            raise ValueError("a field stands twice in it")
        return found
    if isinstance(node, yaml.SequenceNode):
        return [plain(one) for one in node.value]
    return None if node is None or is_empty(node) else str(node.value)


# -- what is there


def _parse(text: str) -> yaml.Node | None:
    document = Document("")
    root = document.parse(text.encode())
    if document.failed:
        raise CannotEditError(_ODD)
    return root


def _section(text: str, root: yaml.Node | None) -> Pair | None:
    """Find the clients."""
    if not isinstance(root, yaml.MappingNode):
        return None
    if text[root.start_mark.index] == "{":
        raise CannotEditError("the whole file stands in one pair of braces")
    return next(((key, value) for key, value in root.value if key.value == _SECTION), None)


def _clients(root: yaml.Node | None) -> dict[str, Value]:
    said = plain(root)
    found = said.get(_SECTION) if isinstance(said, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _require(before: yaml.Node | None, after: str, clients: Mapping[str, Value]) -> None:
    """Compare what a file says and what it would: the same, but for these clients (in their order)."""
    old, new = plain(before), plain(_parse(after))
    sides = [dict(one) if isinstance(one, Mapping) else {} for one in (old, new)]
    found = sides[1].pop(_SECTION, None) or {}
    sides[0].pop(_SECTION, None)
    if sides[0] != sides[1] or not isinstance(found, Mapping) or list(found.items()) != list(clients.items()):
        raise CannotEditError(_ODD)


def _end(text: str, node: yaml.Node) -> int:
    """Return where the last thing ends that means something; a block's own end is that of the comments behind it."""
    begin, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.CollectionNode) and node.value and text[begin] not in "{[":
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    if isinstance(node, yaml.ScalarNode) and text[begin : begin + 1] in ("|", ">"):
        return len(text[:end].rstrip())
    return int(end)


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _own_line(text: str, key: yaml.Node) -> bool:
    """Whether nothing stands in front of a key in its line."""
    index = key.start_mark.index
    return text[_line_start(text, index) : index].strip(" ") == ""


def _next_line(text: str, index: int, column: int) -> int:
    """Return where the line ends that something ends in, and the comments below that are indented deeper than it."""
    match = _REST.match(text, index)
    if match is None:
        raise CannotEditError("something stands behind a client in the same line")
    end = match.end()
    while deeper := re.compile(rf"[ ]{{{column + 1},}}#[^\n]*(\n|\Z)").match(text, end):
        end = deeper.end()
    return end


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _step(root: yaml.Node | None) -> int:
    """Return by how many spaces the sections are indented."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(value, yaml.MappingNode) and value.value:
            column = value.value[0][0].start_mark.column - key.start_mark.column
            if value.value[0][0].start_mark.line > key.start_mark.line and column > 0:
                return int(column)
    return _STEP


# -- what is put there


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text not in _NULLS:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _entry(name: str, fields: Mapping[str, Value]) -> str:
    return f"{_scalar(name)}: {flow(fields)}"


def _put(text: str, index: int, lines: Sequence[str]) -> str:
    """Put whole lines where a line begins, or at the end."""
    newline = _newline(text)
    before = text[:index]
    if before and not before.endswith("\n"):
        before += newline
    return before + "".join(line + newline for line in lines) + text[index:]


def _with_section(text: str, root: yaml.Node | None, name: str, fields: Mapping[str, Value]) -> str:
    gap = [""] if text.strip() else []
    return _put(text, len(text), [*gap, f"{_SECTION}:", f"{' ' * _step(root)}{_entry(name, fields)}"])


def _with_first(text: str, root: yaml.Node | None, pair: Pair, entry: str) -> str:
    """Put a client below ``clients:``, in the place of ``{}`` or ``~`` if need be."""
    key, value = pair
    begin, end = value.start_mark.index, value.end_mark.index
    if "\n" in text[begin:end]:
        raise CannotEditError("there is nothing in its clients but empty lines or comments")
    if begin < end:
        kept = text[:begin].rstrip(" ")
        text, end = kept + text[end:], len(kept)
    match = _REST.match(text, end)
    if match is None:
        raise CannotEditError("something stands behind its clients in the same line")
    return _put(text, match.end(), [" " * (key.start_mark.column + _step(root)) + entry])


def _behind_last(text: str, pairs: Sequence[Pair], name: str, fields: Mapping[str, Value]) -> str:
    """Put a client behind the last one, laid out as that."""
    key, value = pairs[-1]
    column = key.start_mark.column
    index = _next_line(text, _end(text, value), column)
    indent = " " * column
    if text[value.start_mark.index] == "{" or not isinstance(value, yaml.MappingNode):
        lines = [indent + _entry(name, fields)]
    else:
        inner = " " * value.value[0][0].start_mark.column
        lines = [f"{indent}{_scalar(name)}:", *(f"{inner}{_scalar(one)}: {flow(its)}" for one, its in fields.items())]
    if len(pairs) > 1:
        between = text[_end(text, pairs[-2][1]) : key.start_mark.index]
        lines = [""] * bool(re.search(r"\n[ \t]*\r?\n", between)) + lines
    return _put(text, index, lines)


def _into_flow(text: str, pairs: Sequence[Pair], entry: str) -> str:
    """Put a client into braces: in a line of its own, if the last one has one."""
    key, value = pairs[-1]
    end = _end(text, value)
    rest = _REST_IN_FLOW.match(text, end)
    if rest is None or not _own_line(text, key):
        return f"{text[:end]}, {entry}{text[end:]}"
    newline, comma, comment = _newline(text), rest[1] or "", rest[2] or ""
    line = " " * key.start_mark.column + entry + comma
    return f"{text[:end]},{comment}{newline}{line}{newline}{text[rest.end() :]}"


# -- what is taken out


def _out_of_block(text: str, pairs: Sequence[Pair], number: int) -> str:
    key, value = pairs[number]
    if not _own_line(text, key):
        raise CannotEditError("something stands in front of the client in the same line")
    begin = _line_start(text, key.start_mark.index)
    end = _next_line(text, max(_end(text, value), key.end_mark.index), key.start_mark.column)
    before, after = text[:begin], text[end:]
    blank = re.search(r"\n[ \t]*\r?\n\Z", before)
    if blank is not None and not after:
        return before[: blank.start() + 1]
    if blank is not None and (gap := re.match(r"[ \t]*\r?\n", after)):
        return before + after[gap.end() :]
    return before + after


def _out_of_flow(text: str, pairs: Sequence[Pair], number: int) -> str:
    key, value = pairs[number]
    begin, end = key.start_mark.index, _end(text, value)
    rest = _REST_IN_FLOW.match(text, end)
    is_first_of_next = number + 1 < len(pairs) and pairs[number + 1][0].start_mark.index < (rest.end() if rest else 0)
    if rest is not None and _own_line(text, key) and not is_first_of_next:
        return text[: _line_start(text, begin)] + text[rest.end() :]
    if number + 1 < len(pairs):
        end = pairs[number + 1][0].start_mark.index
    elif number > 0:
        begin = _end(text, pairs[number - 1][1])
    elif comma := re.compile(r"[ \t]*,").match(text, end):
        end = comma.end()
    around = text[begin : key.start_mark.index] + text[_end(text, value) : end]
    if "#" in around:
        raise CannotEditError("a comment stands between this client and another")
    return text[:begin] + text[end:]
