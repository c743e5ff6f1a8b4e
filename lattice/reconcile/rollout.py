"""How a version replaces the one that runs: host by host, behind a health gate, and back again.

What is new must come up on a batch of hosts and stay well for a while before the next batch
follows. If it does not, everything goes back to the version before. Only what changed is rolled:
other images, other lists of configs, and configs with other values. Those last have no copy per
host, so they are changed everywhere at once, first, and go through the same gate.

All of it is in ``Rollout``: whoever reads that back goes on where the one before stopped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lattice.manifest import SCALER_ANNOTATION, DesiredApp, DesiredScaler
from lattice.manifest.resolution import EntityKind
from lattice.reconcile.model import (
    App,
    AppMemory,
    Attempt,
    ObservedComponent,
    ObservedProvider,
    Rollout,
    Seen,
    config_key,
)
from lattice.reconcile.placement import Placement
from lattice.reconcile.view import Copy, View, attempt_key, is_current, owner

REFUSALS_MAX = 3
"""Refusals in a row after which a host is taken to mean it; one may be a registry's bad moment."""

Entity = tuple[EntityKind, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What an app is heading for, and by which way."""

    goal: DesiredApp | None
    """What shall be in the end; None for nothing."""
    base: DesiredApp | None = None
    """What was, while that is being replaced host by host."""
    others: Mapping[str, DesiredScaler] = field(default_factory=dict)
    """Scalers by their ids, also of a version whose rollout was overtaken."""
    lost: str = ""
    """Why nobody knows what shall be."""

    @property
    def scalers(self) -> dict[Entity, DesiredScaler]:
        """What shall run for now: while rolling, what only the old version has stays."""
        before = self.base.scalers if self.base else ()
        after = self.goal.scalers if self.goal else ()
        return {(scaler.kind, scaler.entity): scaler for scaler in (*before, *after)}

    @property
    def changed(self) -> dict[Entity, tuple[DesiredScaler, DesiredScaler]]:
        """What is being replaced: old and new."""
        return changed_entities(self.base, self.goal) if self.base and self.goal else {}


def plot(app: App, memory: AppMemory, *, gradual: bool = True) -> Course:
    """Where an app is heading; begins a rollout when another version takes over.

    Without ``gradual`` no rollout begins, and one that runs is as good as done.
    """
    if app.desired is None:
        memory.rollout = None
        memory.stable = None
        return Course(goal=None)
    if not gradual:
        return Course(goal=app.desired)
    if memory.rollout is None:
        memory.rollout = _begin(app, app.desired, memory.stable)
    if (rollout := memory.rollout) is None:
        return Course(goal=app.desired)
    base = app.fallbacks.get(rollout.base)
    if rollout.phase == "rolled_back":
        if base is None:
            return Course(goal=None, lost=f"version {rollout.base} is not stored any more")
        return Course(goal=base)
    if base is None:
        # Nothing to go back to, so nothing to compare with either.
        memory.rollout = None
        return Course(goal=app.desired)
    previous = app.fallbacks.get(app.previous) if app.previous is not None else None
    known = (version for version in (previous, base, app.desired) if version is not None)
    return Course(
        goal=app.desired,
        base=base,
        others={scaler.id: scaler for version in known for scaler in version.scalers},
    )


def changed_entities(
    base: DesiredApp, target: DesiredApp
) -> dict[Entity, tuple[DesiredScaler, DesiredScaler]]:
    """Actors and providers of both versions that can't stay as they run: old and new."""
    before = {(scaler.kind, scaler.entity): scaler for scaler in base.scalers}
    configs = changed_configs(base, target)
    return {
        entity: (old, new)
        for new in target.scalers
        if (old := before.get(entity := (new.kind, new.entity))) is not None
        and (
            old.reference != new.reference
            or old.config != new.config
            or not configs.isdisjoint(new.config)
        )
    }


def changed_configs(base: DesiredApp, target: DesiredApp) -> set[str]:
    """Configs of both versions whose values differ."""
    before = {config.name: config.values for config in base.configs}
    return {
        config.name
        for config in target.configs
        if config.values is not None
        and before.get(config.name) is not None
        and before[config.name] != config.values
    }


def _begin(app: App, target: DesiredApp, stable: str | None) -> Rollout | None:
    base = app.fallbacks.get(stable) if stable is not None else None
    if base is None or base.version == target.version or target.rollout.strategy == "at-once":
        return None
    changed = changed_entities(base, target)
    if not changed:
        return None
    configs = changed_configs(base, target)
    watched = any(not configs.isdisjoint(new.config) for _, new in changed.values())
    return Rollout(
        generation=app.generation,
        target=target.version,
        base=base.version,
        phase="configs" if watched else "rolling",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a rollout's next step depends on."""

    view: View
    attempts: Mapping[str, Attempt]
    placements: Mapping[Entity, Placement]
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a rollout is."""

    done: bool = False
    message: str = ""
    wake_at: float | None = None


def advance(rollout: Rollout, course: Course, around: Surroundings) -> Progress:
    """Look at the batch and decide: wait, go on to the next, be done, or go back.

    Changes the rollout; going back shows in its phase and reason.
    """
    assert course.base is not None
    assert course.goal is not None
    policy = course.goal.rollout
    if rollout.phase == "configs" and not rollout.hosts:
        rollout.hosts = _users(course, around)
        rollout.started = around.now
        if not rollout.hosts:
            rollout.phase = "rolling"
    if rollout.hosts:
        rollout.hosts = [
            host
            for host in rollout.hosts
            if (known := around.view.hosts.get(host)) is not None and not known.draining
        ]
        members = _members(rollout, course, around)
        failure, gates = _look(rollout, members, course, around)
        if failure:
            return _turn_back(rollout, failure)
        waiting = [gate for gate in gates if gate is None or gate > around.now]
        deadline = rollout.started + policy.deadline_s
        if waiting:
            if around.now >= deadline:
                return _turn_back(rollout, _late(rollout, members, around))
            known_gates = [gate for gate in waiting if gate is not None]
            return _under_way(rollout, course, around, wake_at=min([deadline, *known_gates]))
        if rollout.phase == "configs":
            rollout.phase = "rolling"
        else:
            rollout.passed += rollout.hosts
        rollout.hosts, rollout.seen = [], {}
    stale = _stale(course, around)
    ready = [host for host in stale if around.view.is_alive(host)]
    if not stale:
        return Progress(done=True)
    rollout.hosts = ready[: policy.max_unavailable]
    rollout.started = around.now
    return _under_way(rollout, course, around, wake_at=around.now + policy.deadline_s)


def version_on(
    host: str,
    scaler: DesiredScaler,
    copy: Copy | None,
    rollout: Rollout | None,
    course: Course,
) -> DesiredScaler | None:
    """Which version of a scaler a host shall run now; None to leave what it runs as it is."""
    change = course.changed.get((scaler.kind, scaler.entity))
    if rollout is None or course.base is None or change is None:
        return scaler
    old, new = change
    if host in rollout.passed or (rollout.phase == "rolling" and host in rollout.hosts):
        return new
    if copy is None:
        # Only what has stood the test somewhere is started elsewhere.
        return new if rollout.passed else old
    if owner(copy.annotations) is None:
        return old
    # What a rollout that was overtaken left behind stays until it is its turn.
    known = course.others.get(copy.annotations.get(SCALER_ANNOTATION, ""))
    return known if known is not None and is_current(copy, known) else None


def _turn_back(rollout: Rollout, reason: str) -> Progress:
    rollout.phase = "rolled_back"
    rollout.reason = reason
    rollout.hosts, rollout.seen, rollout.passed = [], {}, []
    return Progress()


def _under_way(
    rollout: Rollout, course: Course, around: Surroundings, *, wake_at: float
) -> Progress:
    if rollout.phase == "configs":
        message = f"Rolling out {rollout.target}: its configs are in force, waiting for the gate"
    else:
        total = len({*rollout.passed, *rollout.hosts, *_stale(course, around)})
        message = f"Rolling out {rollout.target}: {len(rollout.passed)} of {total} host(s)"
    return Progress(message=message, wake_at=wake_at)


def _users(course: Course, around: Surroundings) -> list[str]:
    """Hosts on which something uses a config that changes."""
    assert course.base is not None
    assert course.goal is not None
    configs = changed_configs(course.base, course.goal)
    return [
        host
        for host in around.view.hosts
        if any(
            host in around.placements[entity].places
            and not configs.isdisjoint(new.config)
            and host in around.view.copies(*entity)
            for entity, (_, new) in course.changed.items()
        )
    ]


def _stale(course: Course, around: Surroundings) -> list[str]:
    """Hosts that run something of another version than the new one."""
    return [
        host
        for host, known in around.view.hosts.items()
        if not known.draining
        and any(
            host in around.placements[entity].places
            and (copy := around.view.copies(*entity).get(host)) is not None
            and not is_current(copy, new)
            for entity, (_, new) in course.changed.items()
        )
    ]


@dataclass(frozen=True, slots=True)
class _Member:
    """Something that has to come up on a host of the batch."""

    key: str
    host: str
    new: DesiredScaler


def _members(rollout: Rollout, course: Course, around: Surroundings) -> list[_Member]:
    assert course.base is not None
    assert course.goal is not None
    configs = changed_configs(course.base, course.goal)
    return [
        _Member(attempt_key(new.kind, host, new.entity), host, new)
        for host in rollout.hosts
        for entity, (_, new) in course.changed.items()
        if host in around.placements[entity].places
        and (rollout.phase == "rolling" or not configs.isdisjoint(new.config))
    ]


def _look(
    rollout: Rollout, members: list[_Member], course: Course, around: Surroundings
) -> tuple[str, list[float | None]]:
    """What is wrong with the batch, if anything is, and when each member passes; None: not up."""
    assert course.goal is not None
    policy = course.goal.rollout
    if refusal := _refusal(members, course, around):
        return refusal, []
    gates: list[float | None] = []
    for member in members:
        copy = around.view.copies(member.new.kind, member.new.entity).get(member.host)
        if copy is None or not _is_up(rollout, copy, member, course, around):
            rollout.seen.pop(member.key, None)
            gates.append(None)
            continue
        seen = rollout.seen.setdefault(member.key, _seen(copy, around.now))
        if isinstance(copy, ObservedComponent):
            failed = _failed_since(copy, seen)
            if failed > policy.failures_allowed:
                where = around.view.label(member.host)
                return f"{failed} call(s) of {member.new.entity} failed on {where}", []
        gates.append(seen.since + policy.gate_s)
    return "", gates


def _refusal(members: list[_Member], course: Course, around: Surroundings) -> str:
    keys = [
        (f"{member.new.entity} on {around.view.label(member.host)}", member.key)
        for member in members
    ]
    if course.base is not None and course.goal is not None:
        configs = sorted(changed_configs(course.base, course.goal))
        keys += [(f"config {name}", config_key(name)) for name in configs]
    for what, key in keys:
        attempt = around.attempts.get(key)
        if attempt is not None and attempt.failures >= REFUSALS_MAX:
            return f"{what} was refused {attempt.failures} times: {attempt.error}"
    return ""


def _is_up(
    rollout: Rollout, copy: Copy, member: _Member, course: Course, around: Surroundings
) -> bool:
    if isinstance(copy, ObservedProvider) and copy.healthy is False:
        return False
    if rollout.phase == "rolling":
        return is_current(copy, member.new)
    assert course.goal is not None
    wanted = {config.name: config.values for config in course.goal.configs}
    return all(
        wanted.get(name) is None or around.view.configs.get(name) == wanted[name]
        for name in member.new.config
    )


def _seen(copy: Copy, now: float) -> Seen:
    if isinstance(copy, ObservedComponent):
        return Seen(since=now, calls=copy.calls, failures=copy.failures)
    return Seen(since=now)


def _failed_since(copy: ObservedComponent, seen: Seen) -> int:
    if copy.failures is None:
        return 0
    before = seen.failures or 0
    # Whoever counts less than before has begun anew.
    return copy.failures - before if copy.failures >= before else copy.failures


def _late(rollout: Rollout, members: list[_Member], around: Surroundings) -> str:
    late = next((member for member in members if member.key not in rollout.seen), members[0])
    where = around.view.label(late.host)
    took = around.now - rollout.started
    return f"{late.new.entity} was not up and well on {where} after {took:.0f} s"
