"""What a plan says of each kind of step."""

import pytest

from lattice.reconcile import plans
from lattice.reconcile.model import (
    Command,
    DeleteConfig,
    DeleteLink,
    Observed,
    ObservedComponent,
    ObservedHost,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    Step,
    StopProvider,
)
from lattice.wire.control import Link

LINK = Link(source_id="a", target="b", wit_namespace="wasi", wit_package="keyvalue")

OBSERVED = Observed(
    hosts={
        "N1": ObservedHost(
            id="N1", components={"runs": ObservedComponent(reference="x:1", count=2)}
        )
    }
)


def scale(component: str, count: int, reference: str = "x:1") -> ScaleComponent:
    return ScaleComponent(
        host="N1", component=component, reference=reference, count=count, annotations={}
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (scale("new", 1), ("start", "component new", "N1")),
        (scale("runs", 3), ("scale", "component runs", "N1")),
        (scale("runs", 2, "x:2"), ("update", "component runs", "N1")),
        (scale("runs", 0), ("stop", "component runs", "N1")),
        (
            StartProvider(host="N1", provider="p", reference="y:1", annotations={}),
            ("start", "provider p", "N1"),
        ),
        (StopProvider(host="N1", provider="p"), ("stop", "provider p", "N1")),
        (PutLink(link=LINK), ("put", "link a -> b", "")),
        (DeleteLink(link=LINK), ("delete", "link a -> b", "")),
        (PutConfig(name="c", values={}), ("put", "config c", "")),
        (DeleteConfig(name="c"), ("delete", "config c", "")),
    ],
)
def test_a_step_is_an_action_on_something_somewhere(
    command: Command, words: tuple[str, str, str]
) -> None:
    answer = plans.answer(
        "hello", [Step(command=command, reason="Because.", app="hello")], OBSERVED
    )

    (step,) = answer.steps
    assert (step.action, step.entity, step.host) == words
    assert step.reason == "Because."


def test_a_plan_says_how_many_steps_it_left_out() -> None:
    step = Step(command=DeleteConfig(name="c"), reason="Because.", app="hello")

    answer = plans.answer("hello", [step] * (plans.STEPS_MAX + 5), OBSERVED)

    assert (len(answer.steps), answer.left_out) == (plans.STEPS_MAX, 5)
    assert plans.answer("hello", [], OBSERVED).message == "Nothing would change"
