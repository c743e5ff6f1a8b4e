"""What a call with a key may do, from what is remembered of the key."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.idempotency import rules
from lattice.wire.invocation import Invocation
from lattice.wire.outcomes import Outcome

NOW_MS = 1_700_000_000_000
DIGEST = rules.digest_of(b"payload")
RUNNING = Outcome(call_id="x.1", at="NFIRST", digest=DIGEST, until_ms=NOW_MS)
ENDED = replace(RUNNING, answer=b"answer")


def call(key: str | None = "k", **fields: str) -> Invocation:
    values = {"source": "a", "target": "b", "interface": "c:d", "operation": "E.F"} | fields
    return Invocation(payload=b"payload", deadline=0, key=key, **values)  # type: ignore[arg-type]


def test_a_call_that_has_ended_is_answered_as_before_however_late() -> None:
    assert rules.recall(ENDED, digest=DIGEST, now_ms=NOW_MS + 10**9) == b"answer"


def test_a_call_that_runs_is_waited_for_as_long_as_it_may_run() -> None:
    assert rules.recall(RUNNING, digest=DIGEST, now_ms=NOW_MS) is None


def test_a_call_whose_host_said_nothing_in_time_has_an_unknown_outcome() -> None:
    with pytest.raises(errors.Unavailable, match="outcome is unknown") as caught:
        rules.recall(RUNNING, digest=DIGEST, now_ms=NOW_MS + 1)

    assert (caught.value.executed, caught.value.at) == ("unknown", "NFIRST")


@pytest.mark.parametrize("outcome", [RUNNING, ENDED], ids=["running", "ended"])
@pytest.mark.parametrize("late_ms", [0, 10**9])
def test_a_key_of_another_payload_is_a_conflict_whatever_became_of_it(
    outcome: Outcome, late_ms: int
) -> None:
    with pytest.raises(errors.Conflict, match="another payload"):
        rules.recall(outcome, digest=rules.digest_of(b"other"), now_ms=NOW_MS + late_ms)


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_only_what_was_not_executed_frees_its_key(code: str) -> None:
    error = errors.BY_CODE[code].from_parts("what happened")

    assert rules.frees(error) == isinstance(error, errors.NotExecuted)


def test_a_call_that_expired_before_it_was_executed_frees_its_key() -> None:
    assert rules.frees(errors.Expired("too late"))
    assert not rules.frees(errors.DeadlineExceeded("too slow"))


def test_the_lease_outlasts_the_deadline() -> None:
    outcome = rules.begun(call(), at="NFIRST", left_s=1.5, now_ms=NOW_MS)

    assert outcome.until_ms == NOW_MS + 1500 + limits.IDEMPOTENCY_GRACE_S * 1000
    assert (outcome.at, outcome.digest, outcome.answer) == ("NFIRST", DIGEST, None)


@pytest.mark.parametrize(
    "other",
    [
        call(key="l"),
        call(source="x"),
        call(target="x"),
        call(interface="x:y"),
        call(operation="X.Y"),
        call(operation="E.", key="Fk"),
    ],
    ids=["key", "source", "target", "interface", "operation", "what runs together"],
)
def test_calls_that_differ_in_scope_are_remembered_apart(other: Invocation) -> None:
    assert rules.record_name(call()) != rules.record_name(other)


def test_a_repetition_is_remembered_in_the_same_place() -> None:
    assert rules.record_name(call()) == rules.record_name(call())


@pytest.mark.parametrize(
    "key", ["", None, "x" * (limits.IDEMPOTENCY_KEY_CHARS_MAX + 1), "ü", "a\nb", "\udc80"]
)
def test_what_can_be_no_key_is_refused(key: str | None) -> None:
    with pytest.raises(errors.InvalidRequest, match="the idempotency key has"):
        rules.record_name(call(key=key))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_any_printable_text_is_a_key_and_its_record_has_a_name_fit_for_a_bucket(key: str) -> None:
    assert len(rules.record_name(call(key=key))) == 64
