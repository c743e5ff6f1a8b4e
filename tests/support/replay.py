"""Replays recorded control requests against a real host, and writes down what came of them.

A recording is a file of JSON lines: a request, what was answered, and what the host published
because of it. Every message stands there to the byte, but for what differs from run to run (ids,
times, addresses), in whose place stands a word in capitals.
"""

import asyncio
import json
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lattice
from lattice import errors, subjects
from lattice.bus import Message
from tests.support.cluster import Cluster
from tests.support.eventually import eventually

SILENCE_S = 0.3
"""Who has not answered by then does not mean to."""

QUIET_S = 1.0
"""While recording: nothing more comes of a request when nothing came for so long."""

_VOLATILE = (
    (re.compile(r'"id":"[0-9a-f]{8}-[0-9a-f-]{27}"'), '"id":"UUID"'),
    (re.compile(r'"time":"[^"]+Z"'), '"time":"TIME"'),
    (re.compile(r'"uptime_seconds":[0-9]+'), '"uptime_seconds":0'),
    (re.compile(r'"uptime_human":"[^"]+"'), '"uptime_human":"0s"'),
    (re.compile(f'"hostcore.arch":"{platform.machine()}"'), '"hostcore.arch":"ARCH"'),
    (re.compile(f'"version":"{re.escape(lattice.__version__)}"'), '"version":"VERSION"'),
)


@dataclass(frozen=True, slots=True)
class Step:
    """A request, or none, and the lines that follow it."""

    request: str | None
    outcome: list[str]


def steps(recording: Path) -> Iterator[Step]:
    """The steps of a recording, in order."""
    request: str | None = None
    outcome: list[str] = []
    for line in recording.read_text().splitlines():
        if line.startswith('{"request":'):
            if request is not None or outcome:
                yield Step(request, outcome)
            request, outcome = line, []
        else:
            outcome.append(line)
    yield Step(request, outcome)


class Replay:
    """One run of a recording."""

    def __init__(self, cluster: Cluster, words: Mapping[str, str]) -> None:
        """``words``: what stands in recordings for what is only known now."""
        self._cluster = cluster
        self._words = words
        self._published: list[str] = []

    async def open(self) -> None:
        """Listen to whatever the host says unasked."""
        lattice_name = self._cluster.lattice
        for subject in (
            subjects.event(lattice_name, ">"),
            subjects.own_event(lattice_name, ">"),
            subjects.link_put(lattice_name, "*"),
            subjects.link_delete(lattice_name, "*"),
        ):
            await self._cluster.bus.subscribe(subject, self._note)
        await self._cluster.bus.flush()

    async def check(self, step: Step) -> list[str]:
        """Do a step, and give the lines that came of it when as many have come as should."""
        lines = await self._ask(step.request) if step.request else []
        await eventually(lambda: len(lines) + len(self._published) >= len(step.outcome))
        return lines + self._take()

    async def record(self, step: Step) -> list[str]:
        """Do a step, and give the lines that came of it until nothing more does."""
        lines = await self._ask(step.request) if step.request else []
        seen = -1
        while seen != len(self._published):
            seen = len(self._published)
            await asyncio.sleep(QUIET_S)
        return lines + self._take()

    async def _ask(self, line: str) -> list[str]:
        request = json.loads(self._spelled_out(line))
        raw = '"body":' in line
        body = json.dumps(request["body"], separators=(",", ":")).encode() if raw else b""
        deadline = asyncio.get_running_loop().time() + 10
        if request.get("silent"):
            deadline += SILENCE_S - 10
        try:
            message = await self._cluster.bus.request(request["request"], body, deadline=deadline)
        except errors.DeadlineExceeded:
            return ['{"reply":null}']
        return [f'{{"reply":{self._normal(message.data)}}}']

    def _take(self) -> list[str]:
        """What was published, by subject: a host's connections don't wait for each other."""
        lines, self._published = self._published, []
        return sorted(lines, key=lambda line: line.partition('","')[0])

    async def _note(self, message: Message) -> None:
        line = f'{{"published":"{message.subject}","body":{self._normal(message.data)}}}'
        # Heartbeats come again and again.
        if "host_heartbeat" not in line or line not in self._published:
            self._published.append(line)

    def _normal(self, data: bytes) -> str:
        text = data.decode()
        assert json.loads(text) is not None
        for pattern, replacement in _VOLATILE:
            text = pattern.sub(replacement, text)
        for word, value in self._words.items():
            text = text.replace(value, word)
        return text

    def _spelled_out(self, line: str) -> str:
        for word, value in self._words.items():
            line = line.replace(word, value)
        return line


def words_of(**known: Any) -> dict[str, str]:
    """Words for a recording, by the values that they stand for."""
    return {name.upper(): str(value) for name, value in known.items()}
