"""Subjects, patterns of them, and what is out of bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from providers.messaging import grants
from providers.messaging.grants import Territory

PATTERNS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4).flatmap(
    lambda tokens: st.sampled_from([".".join(tokens), ".".join([*tokens, ">"])])
)
SUBJECTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6).map(".".join)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_a_pattern_that_covers_another_takes_in_all_of_its_subjects(
    one: str, other: str, subject: str
) -> None:
    if grants.covers(one, other) and grants.covers(other, subject):
        assert grants.covers(one, subject)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_patterns_that_share_a_subject_overlap(one: str, other: str, subject: str) -> None:
    if grants.covers(one, subject) and grants.covers(other, subject):
        assert grants.overlaps(one, other)
        assert grants.overlaps(other, one)


@pytest.mark.parametrize(
    ("pattern", "subject", "taken"),
    [
        ("orders.>", "orders.new", True),
        ("orders.>", "orders.new.7", True),
        ("orders.>", "orders", False),
        ("orders.*", "orders.new.7", False),
        ("orders.*", "orders.>", False),
        ("orders.*", "orders.*", True),
        ("orders.new", "orders.*", False),
        (">", "orders", True),
        ("*", "orders", True),
        ("*.new", "orders.new", True),
        ("orders", "orders.new", False),
    ],
)
def test_wildcards_mean_what_they_mean_in_nats(pattern: str, subject: str, taken: bool) -> None:
    assert grants.covers(pattern, subject) == taken


@pytest.mark.parametrize(
    "subject",
    [
        *("", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nPUB wasmbus.x 0\r\n", "a\0b", "a\x7f"),
        *("a\u2028b", "a\u00a0b", "a.*", "*", ">", "a.>", "x" * 1025, "\ud800"),
    ],
)
def test_what_is_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        grants.parse_subject(subject)


@pytest.mark.parametrize("subject", ["a", "a.b", "größe.neu", "a-b_c.7", "a*b", "x" * 1024])
def test_what_nats_takes_for_a_subject_is_one(subject: str) -> None:
    assert grants.parse_subject(subject) == subject


@pytest.mark.parametrize("pattern", ["a.>.b", ">.a", "a..>", " a", ""])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        grants.parse_pattern(pattern)


RESERVED = [
    *("wasmbus.rpc.default.kv.call.worker", "wasmbus.ctl.v1.default.host.get", "lattice.beat.x.y"),
    *("wadm.api.default.model.list", "$SYS.REQ.SERVER.PING", "$JS.API.STREAM.DELETE.ORDERS"),
    *("$JS.ACK.ORDERS.workers.1.1.1.1.0", "$KV.LATTICEDATA_default.x", "_INBOX.x.1", "_x"),
]


@pytest.mark.parametrize("subject", RESERVED)
@pytest.mark.parametrize("allowed", [None, (">",), ("*.>", "$JS.>", "wasmbus.>", "_INBOX.>")])
def test_nothing_that_a_link_says_opens_what_is_reserved(
    subject: str, allowed: tuple[str, ...] | None
) -> None:
    with pytest.raises(errors.Denied):
        Territory().check_send(subject, allowed=allowed, is_answering=False)


def test_an_inbox_can_be_answered_where_the_link_lets_its_actor_answer() -> None:
    Territory().check_send("_INBOX.x.1", allowed=(), is_answering=True)

    for other in ("_INBOX.*", "_INBOX.>", "_INBOX.", "_INBOX"):
        with pytest.raises(errors.NotExecuted):
            Territory().check_send(other, allowed=(), is_answering=True)


def test_a_link_sends_only_where_its_patterns_lead() -> None:
    allowed = ("orders.*", "audit.>")

    Territory().check_send("orders.new", allowed=allowed, is_answering=True)
    Territory().check_send("audit.a.b", allowed=allowed, is_answering=True)
    for subject in ("orders.new.7", "orders", "other"):
        with pytest.raises(errors.Denied):
            Territory().check_send(subject, allowed=allowed, is_answering=True)
    with pytest.raises(errors.Denied):
        Territory().check_send("orders.new", allowed=(), is_answering=True)


def test_the_provider_can_reserve_more_and_open_some() -> None:
    territory = Territory(reserved=("billing.>",), unreserved=("wasmbus.evt.default.>",))

    territory.check_read(["wasmbus.evt.default.host_started", "wasmbus.evt.default.>"])
    for pattern in ("billing.x", "billing.>", "wasmbus.evt.>", "wasmbus.rpc.default.>", ">"):
        with pytest.raises(errors.Denied):
            territory.check_read([pattern])
    Territory(unreserved=(">",)).check_read([">", "wasmbus.>"])
