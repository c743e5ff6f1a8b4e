"""Subjects are wasmCloud's to the letter, and parsing undoes building."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, subjects
from lattice.subjects import AppSubject, ControlSubject

tokens = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)

WASMCLOUDS = {
    "wasmbus.ctl.v1.default.host.ping": subjects.control("default", "host", "ping"),
    "wasmbus.ctl.v1.x.component.scale.NABC": subjects.control("x", "component", "scale", "NABC"),
    "wasmbus.ctl.v1.x.link": subjects.control("x", "link"),
    "wasmbus.evt.default.component_scaled": subjects.event("default", "component_scaled"),
    "wasmbus.rpc.default.kv.linkdefs.put": subjects.link_put("default", "kv"),
    "wasmbus.rpc.default.kv.linkdefs.del": subjects.link_delete("default", "kv"),
    "wasmbus.rpc.default.kv.health": subjects.provider_health("default", "kv"),
    "wasmbus.rpc.default.kv.health.NABC": subjects.provider_health("default", "kv", "NABC"),
    "wasmbus.rpc.default.kv.default.shutdown": subjects.provider_shutdown("default", "kv"),
    "wasmbus.rpc.default.kv.config.update": subjects.config_update("default", "kv"),
    "LATTICEDATA_default": subjects.state_bucket("default"),
    "CONFIGDATA_default": subjects.config_bucket("default"),
    "COMPONENT_http-hello": subjects.component_key("http-hello"),
    "CLAIMS_MABC": subjects.claims_key("MABC"),
    "wadm.api.default.model.put": subjects.app_api("default", "put"),
    "wadm.api.x.model.deploy.hello": subjects.app_api("x", "deploy", "hello"),
    "wadm.status.default.hello": subjects.app_status("default", "hello"),
    "acme.ctl.v1.x.host.ping": subjects.control("x", "host", "ping", prefix="acme.ctl"),
}

OURS = {
    "wasmbus.rpc.default.echo.call.caller": subjects.call("default", "echo", "caller"),
    "wasmbus.rpc.default.echo.call.*": subjects.calls("default", "echo"),
    "wasmbus.rpc.default.echo.cancel.caller": subjects.cancel("default", "echo", "caller"),
    "wasmbus.rpc.default.echo.cancel.*": subjects.cancels("default", "echo"),
    "wasmbus.rpc.default.*.cancel.*": subjects.cancels("default"),
    "default.echo": subjects.queue_group("default", "echo"),
    "wasmbus.msg.default.echo.Echo.Say": subjects.door("default", "echo", "Echo.Say"),
    "wasmbus.msg.default.echo.>": subjects.doors("default", "echo"),
    "wasmbus.rpc.default.kv.linkdefs.put.NABC": subjects.link_put("default", "kv", "NABC"),
    "wasmbus.rpc.default.kv.linkdefs.del.NABC": subjects.link_delete("default", "kv", "NABC"),
    "wasmbus.rpc.default.kv.config.update.NABC": subjects.config_update("default", "kv", "NABC"),
    "lattice.evt.default.host_draining": subjects.own_event("default", "host_draining"),
    "wadm.api.default.>": subjects.app_apis("default"),
    "lattice.app.default.plan": subjects.app_plan("default"),
    "lattice.beat.default.NABC": subjects.beat("default", "NABC"),
}


@pytest.mark.parametrize(("expected", "built"), (WASMCLOUDS | OURS).items())
def test_subjects_are_spelled_as_published(expected: str, built: str) -> None:
    assert built == expected


@given(tokens, tokens, tokens, st.none() | tokens)
def test_a_control_subject_is_taken_apart_as_it_was_built(
    lattice: str, noun: str, verb: str, name: str | None
) -> None:
    parts = (noun, verb) if name is None else (noun, verb, name)

    assert subjects.parse_control(lattice, subjects.control(lattice, *parts)) == ControlSubject(
        noun, verb, name
    )


@pytest.mark.parametrize(
    "subject",
    [
        "wasmbus.ctl.v1.default.host",
        "wasmbus.ctl.v1.default.config.put.dotted.name",
        "wasmbus.ctl.v1.other.host.ping",
        "wasmbus.ctl.v1.default",
        "host.ping",
        "",
    ],
)
def test_other_subjects_are_unsupported_in_wasmclouds_words(subject: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^unsupported subject$"):
        subjects.parse_control("default", subject)


@given(tokens, tokens, tokens)
def test_a_call_names_its_caller(lattice: str, target: str, source: str) -> None:
    assert subjects.caller_of(subjects.call(lattice, target, source)) == source


@given(tokens, tokens, tokens, tokens)
def test_a_call_to_a_copy_names_its_caller_and_its_target(
    lattice: str, target: str, host: str, source: str
) -> None:
    subject = subjects.copy_call(lattice, target, host, source)

    assert (subjects.target_of(subject), subjects.caller_of(subject)) == (target, source)


@given(tokens, tokens, tokens)
def test_a_cancellation_names_target_and_caller(lattice: str, target: str, source: str) -> None:
    subject = subjects.cancel(lattice, target, source)

    assert subjects.parse_cancel(lattice, subject) == (target, source)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "wasmbus.rpc.default.kv.call.a",
        "wasmbus.rpc.default.kv.cancel",
        "wasmbus.rpc.default.kv.cancel.a.b",
        "wasmbus.rpc.other.kv.cancel.a",
    ],
)
def test_other_subjects_are_no_cancellations(subject: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        subjects.parse_cancel("default", subject)


@given(tokens, tokens, st.lists(tokens, min_size=1, max_size=4).map(".".join))
def test_the_door_names_its_operation_dots_and_all(
    lattice: str, target: str, operation: str
) -> None:
    subject = subjects.door(lattice, target, operation)

    assert subjects.operation_of(lattice, target, subject) == operation


@given(tokens)
def test_a_component_key_names_its_source(source: str) -> None:
    assert subjects.component_of(subjects.component_key(source)) == source


@pytest.mark.parametrize("key", ["CLAIMS_x", "LINKDEF_x", "", "component_x", "COMPONENT_"])
def test_other_keys_have_no_source(key: str) -> None:
    assert subjects.component_of(key) is None


@pytest.mark.parametrize("lattice", ["", "a.b", "a b", "*"])
def test_a_bucket_needs_the_name_of_a_lattice(lattice: str) -> None:
    for bucket in (
        subjects.state_bucket,
        subjects.config_bucket,
        subjects.artefact_bucket,
        subjects.payload_bucket,
    ):
        with pytest.raises(errors.InvalidRequest):
            bucket(lattice)


@given(tokens, st.lists(tokens, min_size=1, max_size=3).map(".".join))
def test_a_control_subject_is_parsed_under_its_own_prefix_only(lattice: str, prefix: str) -> None:
    subject = subjects.control(lattice, "host", "ping", prefix=prefix)

    assert subjects.parse_control(lattice, subject, prefix=prefix).noun == "host"
    with pytest.raises(errors.InvalidRequest, match="unsupported subject"):
        subjects.parse_control(lattice, subject, prefix=f"{prefix}x")


@pytest.mark.parametrize(
    ("key", "claims", "older"),
    [
        ("CLAIMS_MABC", True, False),
        ("LINKDEF_ABC", False, True),
        ("REFMAP_ABC", False, True),
        ("COMPONENT_x", False, False),
        ("SOMETHING", False, False),
    ],
)
def test_kinds_of_keys_are_told_apart(key: str, claims: bool, older: bool) -> None:
    assert subjects.is_claims_key(key) is claims
    assert subjects.is_older_key(key) is older


@given(lattice=tokens, operation=tokens, app=st.none() | tokens)
def test_a_request_for_apps_is_taken_apart_into_what_it_was_built_of(
    lattice: str, operation: str, app: str | None
) -> None:
    subject = subjects.app_api(lattice, operation, app)

    assert subjects.parse_app_api(lattice, subject) == AppSubject(operation, app)


@pytest.mark.parametrize(
    "subject",
    [
        "wadm.api.x.model",
        "wadm.api.x.model.get.a.b",
        "wadm.api.x.policy.get",
        "wadm.api.y.model.get",
        "wadm.api",
        "",
    ],
)
def test_other_requests_for_apps_are_unsupported(subject: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="Unsupported subject"):
        subjects.parse_app_api("x", subject)
