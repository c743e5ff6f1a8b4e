"""Steps in the words of a plan: what would be done to what, where and why."""

from collections.abc import Sequence
from typing import assert_never

from lattice.reconcile.model import (
    Command,
    DeleteConfig,
    DeleteLink,
    Observed,
    PutConfig,
    PutLink,
    ScaleComponent,
    StartProvider,
    Step,
    StopProvider,
)
from lattice.wire.apps import GetResult, PlanAnswer, PlannedStep
from lattice.wire.control import Link

STEPS_MAX = 1_000
"""Steps in one answer: it is one message, and nobody reads so many."""


def answer(app: str, steps: Sequence[Step], observed: Observed) -> PlanAnswer:
    """What a plan says to its reader."""
    planned = [_planned(step, observed) for step in steps[:STEPS_MAX]]
    message = f"Deploying {app} would take {len(steps)} steps" if steps else "Nothing would change"
    return PlanAnswer(
        result=GetResult.SUCCESS,
        message=message,
        steps=planned,
        left_out=len(steps) - len(planned),
    )


def _planned(step: Step, observed: Observed) -> PlannedStep:
    action, entity, host = _words(step.command, observed)
    return PlannedStep(action=action, entity=entity, host=host, reason=step.reason)


def _words(command: Command, observed: Observed) -> tuple[str, str, str]:
    """Action, entity and host."""
    match command:
        case ScaleComponent(host=host, component=component):
            return _scaling(command, observed), f"component {component}", host
        case StartProvider(host=host, provider=provider):
            return "start", f"provider {provider}", host
        case StopProvider(host=host, provider=provider):
            return "stop", f"provider {provider}", host
        case PutLink(link=link):
            return "put", _link(link), ""
        case DeleteLink(link=link):
            return "delete", _link(link), ""
        case PutConfig(name=name):
            return "put", f"config {name}", ""
        case DeleteConfig(name=name):
            return "delete", f"config {name}", ""
        case _:
            assert_never(command)


def _scaling(command: ScaleComponent, observed: Observed) -> str:
    host = observed.hosts.get(command.host)
    runs = host.components.get(command.component) if host else None
    if not command.count:
        return "stop"
    if runs is None or not runs.count:
        return "start"
    return "scale" if runs.reference == command.reference else "update"


def _link(link: Link) -> str:
    return f"link {link.source_id} -> {link.target}"
