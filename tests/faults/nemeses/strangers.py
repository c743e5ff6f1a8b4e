"""Messages that are none, and messages that lie."""

import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from lattice import errors, subjects
from lattice.wire import codec, events
from lattice.wire.invocation import encode_request
from tests.faults.arena import LATTICE, Arena
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window

RUBBISH_MESSAGES = 300


class Rubbish(Nemesis):
    """Malformed and forged messages on the subjects of calls, control, events and beats."""

    name = "malformed and forged messages"
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        rng = random.Random(window.draw)
        bus = self.arena.bus
        for _ in range(RUBBISH_MESSAGES):
            subject, payload = rng.choice(MESSAGES)(rng, self.arena)
            with suppress(errors.LatticeError):
                await bus.publish(subject, payload, reply=rng.choice(("", "nobody.listens")))
        return "everybody"


def _call_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    target = rng.choice(("relay", "front", "echo", "ledger", "http"))
    return subjects.call(LATTICE, target, "stranger"), _mangled(rng, _envelope(arena))


def _control_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    tokens = rng.choice(
        (
            ("link", "put"),
            ("link", "del"),
            ("config", "put", "rubbish"),
            ("component", "scale", arena.victim(rng.random()).id),
            ("provider", "start", arena.victim(rng.random()).id),
            ("provider", "stop", arena.victim(rng.random()).id),
            ("no", "such", "request"),
        )
    )
    body = json.dumps({"component_id": 3, "links": [[[]]], "source_id": "a b"}).encode()
    return subjects.control(LATTICE, *tokens), _mangled(rng, body)


def _event_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    host_id = rng.choice((arena.victim(rng.random()).id, "N" + "A" * 55))
    name = rng.choice(("host_stopped", "host_started", "component_scaled", "provider_stopped"))
    forged = events.encode(name, {"host_id": host_id, "component_id": "relay"}, source=host_id)
    return subjects.event(LATTICE, name), rng.choice((forged, _mangled(rng, forged)))


def _beat_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    beat = codec.pack({"id": rng.choice((7, None, "N" * 56)), "load": "much", "running": -1})
    return subjects.beat(LATTICE, rng.choice(("N" + "B" * 55, "x"))), _mangled(rng, beat)


MESSAGES: Sequence[Callable[[random.Random, Arena], tuple[str, bytes]]] = (
    _call_rubbish,
    _control_rubbish,
    _event_rubbish,
    _beat_rubbish,
)


def _envelope(arena: Arena) -> bytes:
    invocation = arena.call("relay", "Ledger.Refused", b"rubbish")
    # Never what could be taken for a call of the workload.
    return encode_request(invocation, now=invocation.deadline)


def _mangled(rng: random.Random, data: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(3) + data[at + 1 :]
        case 2:
            return rng.randbytes(rng.randrange(200))
        case _:
            return data + rng.randbytes(5)
