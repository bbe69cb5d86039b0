"""The section ``trail`` of rules.yaml: how much of the audit trail is kept."""

from __future__ import annotations

from gatekeeper import sizes
from gatekeeper.rules import values
from gatekeeper.rules.document import Document, Entry
from gatekeeper.settings import TrailSettings

FIELDS = ("keep", "size")
NONE = "none"


def read(doc: Document, field: Entry | None) -> TrailSettings | None:
    """Read it; ``None``: nothing is to be kept."""
    default = TrailSettings()
    if field is None:
        return default
    if values.is_word(field, NONE):
        return None
    fields = doc.fields(field.value, "trail", FIELDS)
    keep = values.seconds(doc, fields.get("keep"), default=default.keep)
    return TrailSettings(keep, _size(doc, fields.get("size"), default.size))


def _size(doc: Document, field: Entry | None, default: int) -> int:
    text = None if field is None else doc.text(field.value, field.name)
    if field is None or text is None:
        return default
    try:
        return sizes.parse(text)
    except ValueError as error:
        doc.complain(field.value, f"size: {error}", "or take the line out: then it is 16MB")
        return default
