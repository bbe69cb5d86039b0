"""Doors of knockd.conf -> clients of rules.yaml with the same effect, and what has no equal. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gatekeeper import duration
from gatekeeper.migrate import command, knockd, names
from gatekeeper.migrate import draft as drafts
from gatekeeper.migrate.access import Setting
from gatekeeper.migrate.command import Action
from gatekeeper.migrate.draft import Draft, DraftClient
from gatekeeper.migrate.knockd import Door
from gatekeeper.migrate.note import Note, Notes
from gatekeeper.settings import Ports

_VERB = re.compile(r"^(?:open(?:close|and|_|-)*|close|start|stop|un?lock|enable|disable)[\s_-]*", re.IGNORECASE)
_NAME_PORTS = "name what it may open: --service ssh=tcp/22, for as many as need be"
_NO_COMMAND = "no command is run here: let ssh do it (a key with a forced command), once its port is open"
_ONLY = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(slots=True)
class _Half:
    """What is known of a door: the sequence that it waits for, and what that does."""

    door: Door
    actions: list[Action]
    sequence: tuple[str, ...] | None
    """``None``: they stand in a file, and count once each."""
    within: int
    flags: tuple[str, ...]
    versions: tuple[int, ...]
    """For which versions of IP it does something."""
    notes: list[Note] = field(default_factory=list)

    @property
    def opens(self) -> bool:
        """Whether it opens; otherwise it closes."""
        return self.actions[0].opens

    @property
    def word(self) -> str:
        """What its name says besides open and close."""
        return _VERB.sub("", self.door.name).lower()

    def is_about(self, other: _Half) -> bool:
        """Whether both are about the same ports."""
        return {*_doors(self.actions)} == {*_doors(other.actions)}


class Converter:
    """Makes clients of doors."""

    def __init__(self, draft: Draft, notes: Notes) -> None:
        self._draft, self._notes = draft, notes
        self._by_sequence: dict[tuple[str, ...], tuple[DraftClient, list[str]]] = {}

    def convert(self, doors: list[Door]) -> None:
        """Put each door into the draft: as a client, as what closes one, or with the reason why it is neither."""
        halves: list[_Half] = []
        for door in doors:
            before = len(self._notes.kept)
            half = self._half(door)
            notes = self._notes.kept[before:]
            if half is None:
                self._leave_out(door, notes)
            else:
                half.notes = notes
                halves.append(half)
        opening = {half.sequence for half in halves if half.opens}
        closing = [half for half in halves if not half.opens]
        for half in [half for half in closing if half.sequence in opening or half.sequence is None]:
            closing.remove(half)
            words = "a sequence that closes is no one-time sequence here" if half.sequence is None else "it opens, too"
            self._notes.add(half.door.where, f"its sequence cannot close: {words}")
            self._leave_out(half.door, [*half.notes, self._notes.kept[-1]])
        for half in halves:
            if half.opens:
                before = len(self._notes.kept)
                taken = self._take_closing(half, closing)
                client = self._client(half, taken)
                notes = [*half.notes, *(taken.notes if taken else ()), *self._notes.kept[before:]]
                if client is not None:
                    client.notes += notes
                else:
                    self._leave_out(half.door, notes)
        for half in closing:
            self._notes.add(half.door.where, "it closes what no sequence opens, or what another one closes already")
            self._leave_out(half.door, [*half.notes, self._notes.kept[-1]])

    def _leave_out(self, door: Door, notes: list[Note]) -> None:
        self._draft.left_out.append((f"{door.where[0]}:{door.where[1]} [{door.name}]", notes))

    @staticmethod
    def _take_closing(half: _Half, closing: list[_Half]) -> _Half | None:
        """Find the door that closes what this one opens: by its name, if there are several."""
        fitting = [one for one in closing if one.is_about(half)]
        fitting.sort(key=lambda one: one.word != half.word)
        if not fitting:
            return None
        closing.remove(fitting[0])
        return fitting[0]

    # -- a door

    def _half(self, door: Door) -> _Half | None:
        actions, versions = self._actions(door)
        sequence, flags = self._sequence(door), self._flags(door)
        if not actions or sequence == () or flags is None:
            return None
        target = door.get("TARGET")
        if target is not None:
            hint = "sequences that are for another host's address, and only pass through, are not heard"
            words = f"Target: a sequence may go to any address of this machine, not to {target.value!a} only"
            self._notes.add(target.where, words, hint)
        return _Half(door, actions, sequence, knockd.seq_timeout(door, self._notes), flags, versions)

    def _sequence(self, door: Door) -> tuple[str, ...] | None:
        """Return its steps, ``None`` if they stand in a file, or nothing if it has none that make sense."""
        if door.get("ONE_TIME_SEQUENCES") is not None:
            return None
        setting = door.get("SEQUENCE")
        if setting is None:
            self._notes.add(door.where, "it has no sequence: knockd refuses such a file")
            return ()
        try:
            return tuple(knockd.steps(setting))
        except ValueError as error:
            self._notes.add(setting.where, f"Sequence: {error}")
            return ()

    def _flags(self, door: Door) -> tuple[str, ...] | None:
        setting = door.get("TCPFLAGS")
        try:
            return tuple(knockd.flags(setting))
        except ValueError as error:
            self._notes.add(setting.where if setting else door.where, f"TCPFlags: {error}")
            return None

    # -- commands

    def _actions(self, door: Door) -> tuple[list[Action], tuple[int, ...]]:
        """Read what a door does (nothing, where that has no equal), and for which versions of IP.

        Where there is no command for IPv6, knockd hands IPv6 addresses to that for IPv4, which iptables refuses; such a
        door counts for both here.
        """
        four, six = door.command("START_COMMAND", 4), door.get("START_COMMAND_6")
        if four is None and (six is None or not six.value):
            self._notes.add(door.where, "it has no command: it does nothing")
            return [], ()
        of_four = self._read(four) if four is not None else []
        if six is None:
            return of_four, (4, 6)
        of_six = self._read(six) if six.value else []
        if of_four and of_six and ({*_doors(of_four)} != {*_doors(of_six)} or of_four[0].opens is not of_six[0].opens):
            self._notes.add(six.where, "Start_Command_6: it is about other ports than Start_Command: that one counts")
            return of_four, (4,)
        return of_four or of_six, tuple(version for version, found in ((4, of_four), (6, of_six)) if found)

    def _read(self, setting: Setting) -> list[Action]:
        title = setting.name.title()
        try:
            found = command.read(setting.value)
        except ValueError as error:
            self._notes.add(setting.where, f"{title}: {error}", _NO_COMMAND)
            return []
        if len({one.opens for one in found}) > 1:
            self._notes.add(setting.where, f"{title}: it opens and closes at once")
            return []
        for caution in dict.fromkeys(caution for one in found for caution in one.cautions):
            self._notes.add(setting.where, f"{title}: {caution}")
        return found

    def _ttl(self, half: _Half) -> int | None:
        """Return for how long it opens; ``None``: until it is closed."""
        stop = half.door.get("STOP_COMMAND") or half.door.get("STOP_COMMAND_6")
        if stop is None:
            return None
        before = len(self._notes.kept)
        closing = self._read(stop)
        is_surely = bool(closing) and not closing[0].opens and {*_doors(closing)} == {*_doors(half.actions)}
        if not is_surely and len(self._notes.kept) == before:
            self._notes.add(stop.where, f"{stop.name.title()}: it does not close what was opened; here that is closed")
        return knockd.cmd_timeout(half.door, self._notes)

    # -- a client

    def _client(self, half: _Half, closing: _Half | None) -> DraftClient | None:
        services = self._services(half)
        if not services:
            return None
        fields: dict[str, str] = {}
        if half.sequence is None:
            file = half.door.settings["ONE_TIME_SEQUENCES"]
            fields["sequence_file"] = drafts.quoted(knockd.beside(file))
        else:
            fields["sequence"] = drafts.sequence(half.sequence)
        if closing is not None and closing.sequence is not None:
            fields["close_sequence"] = drafts.sequence(closing.sequence)
            if (closing.within, closing.flags) != (half.within, half.flags):
                words = "its TCPFlags and Seq_Timeout are those of the door that opens here"
                self._notes.add(closing.door.where, words)
        fields["flags"] = drafts.sequence(half.flags)  # none: any TCP packet is a step, or a wrong one
        fields["within"] = duration.show(half.within)
        fields["services"] = drafts.sequence(services)
        fields["ttl"] = duration.show(self._ttl(half))
        if len(half.versions) == 1:
            fields["from"] = drafts.sequence([_ONLY[half.versions[0]]])
        known = None if half.sequence is None else self._by_sequence.get(half.sequence)
        if known is not None:
            return self._join(known, half, fields, services)
        where = "{}:{}".format(*half.door.where)
        also = f", closed by [{closing.door.name}]" if closing is not None else ""
        client = DraftClient(f"{where} [{half.door.name}]{also}", fields)
        name = names.of_client(half.word or half.door.name, "door", self._draft.clients)
        self._draft.clients[name] = client
        if half.sequence is not None:
            self._by_sequence[half.sequence] = client, services
        return client

    def _join(
        self, known: tuple[DraftClient, list[str]], half: _Half, fields: dict[str, str], services: list[str]
    ) -> DraftClient | None:
        """Add a door to another one that has the same sequence, and differs by what it opens only."""
        client, theirs = known
        if {**client.fields, "services": ""} != {**fields, "services": ""}:
            words = f"its sequence is that of {client.origin}, and the rest differs: one sequence is one client here"
            self._notes.add(half.door.where, words, "give it another sequence")
            return None
        theirs += [name for name in services if name not in theirs]
        client.fields["services"] = drafts.sequence(theirs)
        return client

    def _services(self, half: _Half) -> list[str]:
        found: list[str] = []
        start = half.door.get("START_COMMAND") or half.door.settings["START_COMMAND_6"]
        for action in half.actions:
            ports = action.ports
            if not ports:
                what = "all ports" if action.transport is None else f"all {action.transport} ports"
                ports = [one for one in self._draft.wanted.values() if action.transport in (None, one.transport)]
                taken = "; those of --service are taken" if ports else ""
                hint = None if ports else _NAME_PORTS
                self._notes.add(start.where, f"Start_Command: it opens {what}, which has no equal{taken}", hint)
            for one in ports:
                name = self._draft.service(one)
                if name is None:
                    self._notes.add(start.where, f"{one} is a part of another service: it is left out", _NAME_PORTS)
                elif name not in found:
                    found.append(name)
        return found


def _doors(actions: list[Action]) -> list[tuple[str | None, Ports | None]]:
    """List what some actions are about; ``None``: all protocols, all ports."""
    found: list[tuple[str | None, Ports | None]] = []
    for one in actions:
        found += [(one.transport, ports) for ports in one.ports] or [(one.transport, None)]
    return found
