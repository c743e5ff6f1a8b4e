"""wadm's API: the golden files are what serde makes of the types of wadm 0.21.1."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import apps
from lattice.wire.apps import (
    Api,
    Status,
    StatusInfo,
    StatusType,
    Summary,
)

GOLDEN = Path(__file__).parent / "golden" / "apps"

MODELS: dict[str, type[Api]] = {
    "get_request": apps.GetRequest,
    "get_latest_request": apps.GetRequest,
    "get_answer": apps.GetAnswer,
    "get_answer_notfound": apps.GetAnswer,
    "list_answer": apps.ListAnswer,
    "put_answer": apps.PutAnswer,
    "put_answer_newversion": apps.PutAnswer,
    "versions_answer": apps.VersionsAnswer,
    "delete_request": apps.DeleteRequest,
    "delete_answer": apps.DeleteAnswer,
    "delete_answer_noop": apps.DeleteAnswer,
    "deploy_request": apps.DeployRequest,
    "deploy_latest_request": apps.DeployRequest,
    "deploy_answer": apps.DeployAnswer,
    "deploy_answer_notfound": apps.DeployAnswer,
    "undeploy_request": apps.UndeployRequest,
    "undeploy_answer": apps.DeployAnswer,
    "status_answer": apps.StatusAnswer,
    "status_answer_unknown": apps.StatusAnswer,
    "status": apps.Status,
    "error_answer": apps.ErrorAnswer,
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes().rstrip()


def test_every_golden_file_is_looked_at() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_what_wadm_says_is_read_and_said_in_the_same_bytes(name: str) -> None:
    assert apps.parse(MODELS[name], golden(name), what="golden file").encode() == golden(name)


@pytest.mark.parametrize("name", MODELS)
def test_unknown_fields_are_ignored(name: str) -> None:
    fields = json.loads(golden(name))
    more = json.dumps(fields | {"from_the_future": {"x": [1]}}).encode()

    assert apps.parse(MODELS[name], more, what="x").encode() == golden(name)


def test_the_older_list_is_the_newer_ones_models_without_an_envelope() -> None:
    answer = apps.parse(apps.ListAnswer, golden("list_answer"), what="golden file")

    assert json.loads(apps.encode_summaries(answer.models)) == answer.to_json()["models"]
    assert apps.parse(list[Summary], apps.encode_summaries(answer.models), what="x") == (
        answer.models
    )


def test_clients_that_do_not_know_waiting_are_told_undeployed() -> None:
    waiting = Status(status=StatusInfo(type=StatusType.WAITING, message="no hosts"))

    summary = Summary.of("hello", "v1", waiting)

    assert (summary.status, summary.status_message) == (StatusType.UNDEPLOYED, "no hosts")
    assert summary.detailed_status.status.type is StatusType.WAITING


@pytest.mark.parametrize(
    ("older", "today"), [("compensating", "reconciling"), ("ready", "deployed")]
)
def test_older_names_of_statuses_are_read(older: str, today: str) -> None:
    body = json.dumps({"status": {"type": older}}).encode()

    assert apps.parse(Status, body, what="status").status.type == today


def test_what_only_ours_says_is_said_last_and_only_when_there_is_something_to_say() -> None:
    refusal = apps.PutAnswer(result=apps.PutResult.ERROR, message="no", code="conflict")
    served = apps.ListAnswer(result=apps.GetResult.SUCCESS, served_by="alpha")

    assert refusal.encode().endswith(b',"name":"","code":"conflict"}')
    assert served.encode() == (b'{"result":"success","message":"","models":[],"served_by":"alpha"}')


def test_an_error_is_read_where_the_answer_has_nothing_else() -> None:
    for kind in (apps.PutAnswer, apps.GetAnswer, apps.DeployAnswer, apps.StatusAnswer):
        answer = apps.parse(kind, golden("error_answer"), what="answer").to_json()

        assert (answer["result"], answer["message"]) == ("error", "Internal storage error")


def test_a_plan_is_read_as_it_was_said() -> None:
    step = apps.PlannedStep(action="start", entity="component a", host="N", reason="It is missing")
    answer = apps.PlanAnswer(result=apps.GetResult.SUCCESS, steps=[step])

    assert answer.encode() == (
        b'{"result":"success","message":"","steps":[{"action":"start","entity":"component a",'
        b'"host":"N","reason":"It is missing"}]}'
    )
    assert apps.parse(apps.PlanAnswer, answer.encode(), what="plan") == answer
    assert apps.PlanRequest(name="hello").encode() == b'{"name":"hello"}'
    assert apps.PlanRequest(manifest="x: y").encode() == b'{"manifest":"x: y"}'


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b'{"result":"perhaps"}', b'{"result":5}', b'{"message":"x"}'],
)
def test_nonsense_is_invalid_and_named(body: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="Unable to parse put answer"):
        apps.parse(apps.PutAnswer, body, what="put answer")


def test_an_answer_that_is_too_large_is_not_read() -> None:
    with pytest.raises(errors.PayloadTooLarge):
        apps.parse(apps.PutAnswer, b" " * (apps.ANSWER_BYTES_MAX + 1), what="put answer")


@given(body=st.binary(max_size=200))
def test_rubbish_never_does_anything_but_be_refused(body: bytes) -> None:
    for kind in MODELS.values():
        try:
            apps.parse(kind, body, what="rubbish")
        except errors.InvalidRequest:
            continue
