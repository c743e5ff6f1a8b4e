"""What is remembered of a call with a key: the golden files are the protocol."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import codec, outcomes
from lattice.wire.outcomes import Outcome

GOLDEN = Path(__file__).parent / "golden"

RUNNING = Outcome(call_id="abc.1", at="NHOST", digest=bytes(32), until_ms=1_700_000_000_000)
OUTCOMES = {
    "outcome_running": RUNNING,
    "outcome_ended": Outcome(
        call_id="abc.1",
        at="NHOST",
        digest=bytes(32),
        until_ms=1_700_000_000_000,
        answer=bytes.fromhex((GOLDEN / "reply.hex").read_text()),
    ),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcomes_are_stored_and_read_as_published(name: str) -> None:
    stored = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())

    assert outcomes.encode(OUTCOMES[name]) == stored
    assert outcomes.decode(stored) == OUTCOMES[name]


@pytest.mark.parametrize(
    "changed",
    [
        {"v": 2},
        {"id": 1},
        {"at": None},
        {"sum": "text"},
        {"until": "soon"},
        {"answer": "text"},
    ],
    ids=str,
)
def test_what_cannot_be_read_leaves_the_outcome_unknown(changed: dict[str, Any]) -> None:
    fields = codec.unpack(outcomes.encode(RUNNING)) | changed

    with pytest.raises(errors.InternalError, match="can't be read"):
        outcomes.decode(codec.pack(fields))


def test_unknown_fields_are_ignored() -> None:
    fields = codec.unpack(outcomes.encode(RUNNING)) | {"future": 1}

    assert outcomes.decode(codec.pack(fields)) == RUNNING


@given(st.binary(max_size=100))
def test_whatever_was_stored_is_read_or_refused(data: bytes) -> None:
    with suppress(errors.InternalError):
        assert isinstance(outcomes.decode(data), Outcome)
