"""What the documents have people type is typed, page by page, as it stands there, on machines of its own."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.explain import captures
from tests.netns.stage import DEVICE_PRIVATE, Stage
from tests.packets import udp
from tests.pages.blocks import blocks_of
from tests.pages.elsewhere import where
from tests.pages.outputs import elsewhere, not_said
from tests.pages.stories import STORIES, Story

_GOES_ON = re.compile(r"(sudo )?(\.venv/bin/)?(gatekeeper run\b|tcpdump ).*")
_LOOKS_ON = re.compile(r"sudo gatekeeper (log .*--follow|status .*--watch).*")
"""Beside what goes on; Ctrl-C ends it."""
_KEY = re.compile(r"clients need its public half: (\S+)")
_RULES = "/etc/gatekeeper/rules.yaml"


@pytest.mark.parametrize("page", STORIES)
def test_each_command_of_a_page_does_what_it_should(tmp_path: Path, page: str) -> None:
    with Stage(tmp_path) as stage:
        Play(stage, STORIES[page], page).go()


class Play:
    """A page, played."""

    def __init__(self, stage: Stage, story: Story, page: str) -> None:
        self._stage, self._story, self._page = stage, story, page
        self._said: dict[str, str] = {}
        self._all_said = ""
        self._server_key = ""

    def go(self) -> None:
        self._prepare()
        for block in blocks_of(self._page):
            if block.language == "yaml" and block.text.startswith(("services:", "mode:")):
                (self._stage.checkout / "my-rules.yaml").write_text(self._with_our_key(block.text))
            for command in block.commands():
                if where(command) is None:
                    self._type(f"{block}: ", command)
        self._stop()
        for block in blocks_of(self._page):
            if elsewhere(block) is None:
                assert not_said(block, self._all_said) == [], f"{block}\n{self._all_said}"

    def _stop(self) -> None:
        said = self._stage.stop()
        assert "Traceback" not in said
        self._all_said += said

    def _prepare(self) -> None:
        if self._story.rules:
            (self._stage.directory / "rules").write_text(self._story.rules)
            lines = f"install -m 600 {self._stage.directory / 'rules'} {_RULES}"
        else:
            lines = "true"
        for place in (self._stage.checkout, "/root/client"):
            lines += f"; printf '%s\\n' {DEVICE_PRIVATE} > {place}/vector.key; chmod 600 {place}/vector.key"
        assert self._stage.type(lines).returncode == 0
        for name, text in self._story.files.items():
            (self._stage.checkout / name).write_text(text)
        captures.write(self._stage.checkout / "knocks.pcap", [(udp(b"a knock of nobody's"), time.time())])

    def _with_our_key(self, text: str) -> str:
        printed = self._said.get("gatekeeper keygen laptop.key", "").split()
        return re.sub(r"B6N8\S+=", printed[-1], text) if printed else text

    def _type(self, place: str, command: str) -> None:
        typed = self._in_place(command)
        self._see_to_run(command)
        if _LOOKS_ON.fullmatch(command):
            typed = f"timeout --preserve-status --signal INT 2 {typed}"
            assert self._stage.type(typed).returncode in {0, 130}, place + typed
        elif _GOES_ON.fullmatch(command):
            self._start(command, typed)
        else:
            self._do(place, command, typed)

    def _see_to_run(self, command: str) -> None:
        if command in self._story.down:
            self._stop()
        elif (self._story.runs or command in self._story.up) and not self._stage.is_up():
            self._stage.start("gatekeeper run", until="; ready")

    def _start(self, command: str, typed: str) -> None:
        """Type what goes on; a capture is ended when there is something in it."""
        self._stop()
        is_capture = "tcpdump" in typed
        self._stage.start(typed, until="listening on" if is_capture else "; ready")
        for begins, meanwhile in self._story.meanwhile.items():
            if command.startswith(begins):
                assert self._stage.type(meanwhile, on_client=True).returncode == 0
        if is_capture:
            self._stop()

    def _do(self, place: str, command: str, typed: str) -> None:
        done = self._stage.type(typed, on_client=command.startswith(self._story.client or ("\0",)))
        self._said[command] = done.stdout
        self._all_said += done.stdout + done.stderr
        assert "Traceback" not in done.stderr, place + typed + done.stderr
        if not command.startswith(self._story.fails or ("\0",)):
            assert done.returncode == 0, f"{place}{typed}\n{done.stdout}{done.stderr}"
        for begins, other in self._story.behind.items():
            if command.startswith(begins):
                line = "{the line of gatekeeper join}"
                done = self._stage.type(other.replace(line, self._found(line)))
                assert done.returncode == 0, done.stderr

    def _in_place(self, command: str) -> str:
        for word, other in self._story.instead.items():
            command = command.replace(word, self._found(other))
        return command

    def _found(self, other: str) -> str:
        if other.startswith("{said by "):
            begins = other[len("{said by ") : -1]
            return next((said.strip() for command, said in self._said.items() if command.startswith(begins)), other)
        if other == "{the line of gatekeeper join}":
            said = "".join(said for command, said in self._said.items() if command.startswith("gatekeeper join"))
            return next((line.strip() for line in said.splitlines() if re.match(r"\s*\w+: \{key: ", line)), other)
        if other == "{the server's key}":
            said = "".join(output.read_text() for _, _, output in self._stage._running)
            found = _KEY.search(said)
            return found[1] if found else other
        return other
