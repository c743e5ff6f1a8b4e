"""Decides what to do next so that the lattice becomes what the deployed apps say.

``decide`` is called whenever anything changed, and again at ``wake_at``. It looks at what is and at
what shall be, never at what was done: a command that got lost, a host that died, an actor scaled by
hand and a new version are all the same thing, a difference. What it does about one:

- Configs come first, and what uses one waits until it is there. Links don't wait for their ends.
- More comes before less: what moves is started there before it is stopped here.
- A suspect host keeps what it has and is told nothing; a draining one gets nothing and is emptied.
- What is not marked as a reconciler's is never touched, unless an app wants just that, there.
- With no host to ask, nothing that is missing means anything, and nothing is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lattice.manifest import DesiredLink, DesiredScaler, missing_shared
from lattice.manifest.resolution import EntityKind
from lattice.reconcile import rollout as rollouts
from lattice.reconcile.attempts import Attempts, failed
from lattice.reconcile.model import (
    App,
    AppMemory,
    AppStatus,
    Command,
    Decision,
    DeleteConfig,
    DeleteLink,
    Memory,
    Observed,
    ObservedComponent,
    ObservedProvider,
    PutConfig,
    PutLink,
    ScaleComponent,
    ScalerStatus,
    StartProvider,
    Status,
    Step,
    StopProvider,
    aggregate,
    config_key,
    digest,
    link_key,
)
from lattice.reconcile.placement import Placement, Seat, place
from lattice.reconcile.rollout import Course, Entity, Surroundings
from lattice.reconcile.view import Copy, Owned, View, attempt_key, is_current, owner
from lattice.wire.control import Link

__all__ = ["decide", "failed", "preview"]

GONE_KEPT_S = 86_400.0
"""How long a deleted app is remembered: a host that returns within a day brings nothing back."""

ANNOTATION_TRIES = 2
"""Tries at mere annotations after which they are let be: wasmCloud's hosts change them only along
with something else."""


def decide(apps: Sequence[App], observed: Observed, memory: Memory, now: float) -> Decision:
    """What to do now. Nothing that was passed in is changed."""
    return _Planner(observed, memory, now).decide(apps)


def preview(
    app: App, apps: Sequence[App], observed: Observed, memory: Memory, now: float
) -> list[Step]:
    """What deploying an app as it is would change, and why: all of it, not only what comes first.

    ``apps`` are those that are there; one of the same name is replaced.
    """
    others = [other for other in apps if other.name != app.name]
    # Nothing is under way: the question is what differs, not what to send.
    idle = memory.model_copy(update={"attempts": {}})
    planner = _Planner(observed, idle, now, whole=True)
    return [step for step in planner.decide([*others, app]).steps if step.app == app.name]


@dataclass(slots=True)
class _Work:
    """What one part of an app still needs."""

    pending: int = 0
    """Commands sent, or held back until something else is there."""
    errors: list[str] = field(default_factory=list)


class _Planner:
    def __init__(
        self, observed: Observed, memory: Memory, now: float, *, whole: bool = False
    ) -> None:
        """``whole``: hold nothing back, as nothing of it is going to be carried out."""
        self._view = View(observed)
        self._empty_seats = [
            Seat(
                host=host.id,
                labels=host.labels,
                fixed=host.state != "alive",
                load=self._view.loads[host.id],
            )
            for host in self._view.hosts.values()
            if not host.draining
        ]
        self._memory = memory.model_copy(deep=True)
        self._attempts = Attempts(self._memory, now)
        for key, provider in self._view.given_up():
            self._attempts.note_given_up(key, provider)
        self._now = now
        self._whole = whole
        self._steps: list[Step] = []
        self._wakes: list[float] = []
        self._claims: dict[Entity, str] = {}
        self._wanted_links: dict[str, str] = {}
        self._wanted_configs: dict[str, tuple[str, Mapping[str, str]]] = {}

    def decide(self, apps: Sequence[App]) -> Decision:
        plans = [self._plan(app) for app in sorted(apps, key=self._seniority)]
        plans += self._plans_of_gone({app.name for app in apps})
        for plan in plans:
            self._claim(plan)
        for plan in plans:
            self._head_for(plan)
        goals = [plan.course.goal for plan in plans if plan.course.goal is not None]
        for plan in plans:
            plan.missing = missing_shared(plan.course.goal, goals) if plan.course.goal else []
        statuses: dict[str, AppStatus] = {}
        for plan in plans:
            status = self._act(plan)
            if plan.listed:
                statuses[plan.app.name] = status
        self._memory.attempts = self._attempts.remaining()
        self._wakes += self._attempts.ends()
        later = [wake for wake in self._wakes if wake > self._now]
        return Decision(
            steps=self._steps,
            memory=self._memory,
            statuses=statuses,
            wake_at=min(later, default=None),
        )

    def _seniority(self, app: App) -> tuple[bool, str]:
        """Who has run longest has the first claim on an id that two want."""
        remembered = self._memory.apps.get(app.name)
        return (remembered is None or remembered.stable is None, app.name)

    def _plan(self, app: App) -> "_Plan":
        memory = self._memory.apps.setdefault(app.name, AppMemory())
        memory.gone_at = None
        memory.deleting = app.deleting
        if memory.generation != app.generation:
            memory.generation = app.generation
            memory.rollout = None
        if app.error is not None:
            return _Plan(app, memory, Course(goal=None, lost=app.error))
        return _Plan(app, memory, rollouts.plot(app, memory, gradual=not self._whole))

    def _plans_of_gone(self, known: set[str]) -> list["_Plan"]:
        """Apps that were deleted: hosts that were away may bring something of them back.

        One whose record is missing though nobody deleted it is left as it is.
        """
        plans = []
        for name, memory in list(self._memory.apps.items()):
            if name in known or not memory.deleting:
                continue
            memory.gone_at = self._now if memory.gone_at is None else memory.gone_at
            if self._now - memory.gone_at > GONE_KEPT_S:
                del self._memory.apps[name]
                continue
            app = App(name=name, generation=memory.generation, deleting=True)
            plans.append(_Plan(app, memory, Course(goal=None), listed=False))
        return plans

    def _claim(self, plan: "_Plan") -> None:
        """Note down what an app wants, before anything of another's is taken away."""
        course = plan.course
        for entity in course.scalers:
            self._claims.setdefault(entity, plan.app.name)
        # While a version is replaced, what only the old one has stays.
        for version in (course.goal, course.base):
            for config in version.configs if version else ():
                if config.values is not None:
                    self._wanted_configs.setdefault(config.name, (plan.app.name, config.values))
        goal = course.goal.links if course.goal else ()
        plan.links = list(goal)
        for old in course.base.links if course.base else ():
            if not any(_contradict(old, new) for new in goal):
                plan.links.append(old)
        for link in plan.links:
            self._wanted_links.setdefault(link_key(link.link.order), plan.app.name)

    def _head_for(self, plan: "_Plan") -> None:
        """Decide who runs where, and which version."""
        if plan.course.lost or not self._view.any_alive:
            return
        self._place(plan)
        rollout = plan.memory.rollout
        if rollout is None or plan.course.base is None:
            return
        around = Surroundings(
            view=self._view,
            attempts=self._memory.attempts,
            placements=plan.placements,
            now=self._now,
        )
        progress = rollouts.advance(rollout, plan.course, around)
        if progress.done:
            plan.memory.stable = rollout.target
            plan.memory.rollout = None
        if progress.done or rollout.phase == "rolled_back":
            # What is wanted has changed: without what was only kept for the time being.
            self._forget_claims(plan.app.name)
            plan.course = rollouts.plot(plan.app, plan.memory)
            self._claim(plan)
            self._place(plan)
        else:
            plan.message = progress.message
        if progress.wake_at is not None:
            self._wakes.append(progress.wake_at)

    def _place(self, plan: "_Plan") -> None:
        plan.placements = {
            entity: place(scaler, self._seats(plan.app.name, scaler))
            for entity, scaler in plan.course.scalers.items()
        }

    def _forget_claims(self, app: str) -> None:
        self._claims = {key: who for key, who in self._claims.items() if who != app}
        self._wanted_links = {key: who for key, who in self._wanted_links.items() if who != app}
        self._wanted_configs = {
            name: wanted for name, wanted in self._wanted_configs.items() if wanted[0] != app
        }

    def _act(self, plan: "_Plan") -> AppStatus:
        course = plan.course
        if course.lost:
            return AppStatus(status=Status.FAILED, message=course.lost)
        if not self._view.any_alive:
            return self._status_without_hosts(plan)
        self._keep_configs(plan)
        scalers = [
            self._scale(plan, scaler, placement)
            for scaler, placement in zip(
                course.scalers.values(), plan.placements.values(), strict=True
            )
        ]
        links = [self._keep_link(plan, link) for link in plan.links]
        remaining = self._remove_copies(plan)
        remaining += self._remove_links(plan)
        remaining += self._remove_configs(plan, busy=remaining > 0)
        return self._status(plan, [*scalers, *links], remaining)

    def _send(self, command: Command, reason: str, app: str, *, count: int = 0) -> bool:
        """Make it a step unless it is under way; whether it became one."""
        if not self._whole and not self._attempts.may_send(command, count=count):
            return False
        self._steps.append(Step(command=command, reason=reason, app=app))
        return True

    def _keep_configs(self, plan: "_Plan") -> None:
        app, memory, course = plan.app.name, plan.memory, plan.course
        names = {
            config.name
            for version in (course.goal, course.base)
            for config in (version.configs if version else ())
        }
        for name in sorted(names & self._wanted_configs.keys()):
            whose, values = self._wanted_configs[name]
            if whose != app:
                continue
            if name not in memory.configs:
                memory.configs.append(name)
            there = self._view.configs.get(name)
            if there == values:
                self._attempts.settle(config_key(name))
                continue
            what = "is not there" if there is None else "has other values than the app gives it"
            self._send(PutConfig(name=name, values=values), f"Config {name} {what}.", app)

    def _config_troubles(self, config_names: Sequence[str]) -> tuple[bool, list[str]]:
        """Whether what uses these configs has to wait, and what is wrong for good."""
        waits, errors = False, []
        for name in config_names:
            there = self._view.configs.get(name)
            if name not in self._wanted_configs:
                if there is None:
                    waits = True
                    errors.append(f"Specified configuration {name} does not exist")
            elif there != self._wanted_configs[name][1]:
                waits = True
                if error := self._attempts.error(config_key(name)):
                    errors.append(f"Config {name}: {error}")
        return waits and not self._whole, errors

    def _seats(self, app: str, scaler: DesiredScaler) -> list[Seat]:
        """Hosts that may run something, and what they have of it."""
        copies = self._view.copies(scaler.kind, scaler.entity)
        seats = []
        for seat in self._empty_seats:
            copy = copies.get(seat.host)
            if copy is None and not self._attempts:
                seats.append(seat)
                continue
            if copy is not None and self._is_in_the_way(app, scaler, copy):
                continue
            key = attempt_key(scaler.kind, seat.host, scaler.entity)
            failing, current = self._attempts.is_failing(key), _count(copy)
            if failing:
                self._wakes.append(self._attempts.end(key))
            elif (coming := self._attempts.count_under_way(key)) is not None:
                current = coming
            seats.append(
                Seat(
                    host=seat.host,
                    labels=seat.labels,
                    current=current,
                    fixed=failing or seat.fixed,
                    load=seat.load - (copy is not None),
                )
            )
        return seats

    def _is_in_the_way(self, app: str, scaler: DesiredScaler, copy: Copy) -> bool:
        """Whether a copy keeps the app from having one there: it is somebody else's.

        One with the same image serves as well, until the app takes it over or has its own.
        """
        whose = owner(copy.annotations)
        if whose == app:
            return False
        if whose is None:
            return copy.reference != scaler.reference
        return scaler.kind == "component" or copy.reference != scaler.reference

    def _in_the_way(self, app: str, scaler: DesiredScaler, copies: Mapping[str, Copy]) -> list[str]:
        """Who keeps the app from having one where it might."""
        return [
            f"{scaler.entity} is run by {_whose(copy)} on {self._view.label(host)}"
            for host, copy in copies.items()
            if self._is_in_the_way(app, scaler, copy)
        ]

    def _scale(self, plan: "_Plan", scaler: DesiredScaler, placement: Placement) -> ScalerStatus:
        app, entity = plan.app.name, (scaler.kind, scaler.entity)
        work = _Work(pending=int(placement.waits), errors=list(placement.unmet))
        copies = self._view.copies(*entity)
        if self._claims.get(entity, app) != app:
            return self._status_of_rival(scaler, placement)
        if placement.unmet:
            work.errors += self._in_the_way(app, scaler, copies)
        downs: list[tuple[int, Command, str]] = []
        for host, wanted in placement.places.items():
            copy = copies.get(host)
            if not self._view.is_alive(host):
                continue
            version = rollouts.version_on(host, scaler, copy, plan.memory.rollout, plan.course)
            if version is None:
                continue
            if scaler.kind == "provider":
                self._keep_provider(plan, version, host, wanted.group, copy, work)
            elif down := self._keep_component(
                plan, version, host, wanted.count, wanted.group, copy, work
            ):
                downs.append(down)
        for host, running in copies.items():
            if host in placement.places or owner(running.annotations) != app:
                continue
            if not self._view.is_alive(host):
                continue
            reason = self._why_not(scaler, host)
            downs.append(
                (_count(running), _stop(scaler.kind, scaler.entity, host, running), reason)
            )
        self._reduce(plan, scaler, downs, copies, work)
        if work.pending:
            work.errors += [
                f"{scaler.entity} on {self._view.label(host)}: {error}"
                for host in self._view.hosts
                if (error := self._attempts.error(attempt_key(scaler.kind, host, scaler.entity)))
            ]
        return self._scaler_status(scaler, placement, copies, work)

    def _keep_component(
        self,
        plan: "_Plan",
        scaler: DesiredScaler,
        host: str,
        count: int,
        group: str,
        copy: Copy | None,
        work: _Work,
    ) -> tuple[int, Command, str] | None:
        """Make an actor on a host what it shall be; what only takes away is returned instead."""
        key = attempt_key("component", host, scaler.entity)
        annotations = scaler.annotations(group)
        had = _count(copy)
        command = ScaleComponent(
            host=host,
            component=scaler.entity,
            reference=scaler.reference,
            count=count,
            annotations=annotations,
            config=scaler.config,
        )
        where = self._view.label(host)
        if copy is None:
            reason = f"{scaler.entity} shall have {count} instance(s) on {where} and has none."
        elif copy.reference != scaler.reference:
            reason = (
                f"{scaler.entity} runs {copy.reference} on {where}"
                f" and shall run {scaler.reference}."
            )
            # Less of it has to wait its turn; the other image does not.
            command = replace(command, count=max(count, had))
        elif not is_current(copy, scaler) or not annotations.items() <= copy.annotations.items():
            reason = f"{scaler.entity} on {where} is not marked as what {plan.app.name} wants."
            command = replace(command, count=max(count, had))
            if had == count and self._attempts.tries(key) >= ANNOTATION_TRIES:
                self._attempts.keep(key)
                return None
        elif had < count:
            reason = f"{scaler.entity} has {had} instance(s) on {where} and shall have {count}."
        elif had > count:
            reason = f"{scaler.entity} has {had} instance(s) on {where} and shall have {count}."
            return (had - count, command, reason)
        else:
            self._attempts.settle(key)
            return None
        work.pending += 1
        waits, errors = self._config_troubles(scaler.config)
        work.errors += [error for error in errors if error not in work.errors]
        if not waits:
            self._send(command, reason, plan.app.name, count=command.count)
        return None

    def _keep_provider(
        self,
        plan: "_Plan",
        scaler: DesiredScaler,
        host: str,
        group: str,
        copy: Copy | None,
        work: _Work,
    ) -> None:
        """Make a provider on a host what it shall be: another version of one is another process."""
        key = attempt_key("provider", host, scaler.entity)
        where = self._view.label(host)
        stays = copy is not None and (
            owner(copy.annotations) != plan.app.name or is_current(copy, scaler)
        )
        if stays:
            self._attempts.settle(key)
            return
        work.pending += 1
        waits, errors = self._config_troubles(scaler.config)
        work.errors += [error for error in errors if error not in work.errors]
        if waits:
            return
        start = StartProvider(
            host=host,
            provider=scaler.entity,
            reference=scaler.reference,
            annotations=scaler.annotations(group),
            config=scaler.config,
        )
        if copy is None:
            reason = f"{scaler.entity} shall run on {where} and does not."
            self._send(start, reason, plan.app.name, count=1)
            return
        change = (
            f"runs {copy.reference} on {where} and shall run {scaler.reference}"
            if copy.reference != scaler.reference
            else f"runs on {where} with other configs than it shall"
        )
        # It counts as running there, so that it comes back where it was.
        stop = StopProvider(host=host, provider=scaler.entity)
        self._send(stop, f"{scaler.entity} {change}.", plan.app.name, count=1)
        if self._whole:
            self._send(start, f"{scaler.entity} {change}.", plan.app.name)

    def _reduce(
        self,
        plan: "_Plan",
        scaler: DesiredScaler,
        downs: Sequence[tuple[int, Command, str]],
        copies: Mapping[str, Copy],
        work: _Work,
    ) -> None:
        """Take away what is too much, but not before what replaces it runs."""
        spare = sum(
            self._surely(scaler, host, copy)
            for host, copy in copies.items()
            if self._view.is_alive(host)
        )
        spare -= scaler.instances
        free = scaler.daemon or not work.pending or self._whole
        for less, command, reason in downs:
            work.pending += 1
            under_way = self._attempts.count_under_way(command.key) is not None
            if not free and not under_way:
                if less > spare:
                    continue
                spare -= less
            left = command.count if isinstance(command, ScaleComponent) else 0
            self._send(command, reason, plan.app.name, count=left)

    def _surely(self, scaler: DesiredScaler, host: str, copy: Copy) -> int:
        """Instances that will still be there when everything under way has taken effect."""
        key = attempt_key(scaler.kind, host, scaler.entity)
        coming = self._attempts.count_under_way(key)
        return _count(copy) if coming is None else min(_count(copy), coming)

    def _why_not(self, scaler: DesiredScaler, host: str) -> str:
        where = self._view.label(host)
        if self._view.hosts[host].draining:
            return f"{where} is draining, so {scaler.entity} shall not run there."
        if not any(group.takes(self._view.hosts[host].labels) for group in scaler.groups):
            return f"No spread of {scaler.entity} takes {where}."
        return f"{scaler.entity} shall not run on {where}: other hosts have its instances."

    def _keep_link(self, plan: "_Plan", wanted: DesiredLink) -> ScalerStatus:
        app, link = plan.app.name, wanted.link
        key = link_key(link.order)
        config_names = [*link.source_config, *link.target_config]
        contents = digest(link, {name: self._view.configs.get(name) for name in config_names})
        there = self._view.links_by_key.get(key)
        same = there == link
        remembered = plan.memory.links.get(key)
        waits, errors = self._config_troubles(config_names)
        if not same:
            for rival in self._view.rivals(link):
                self._clear_way(plan, rival, errors)
                waits = waits or not self._whole
        if same and not waits and remembered in (None, contents):
            plan.memory.links[key] = contents
            self._attempts.settle(key)
            return ScalerStatus(
                id=wanted.id, kind="LinkScaler", name=wanted.name, status=Status.DEPLOYED
            )
        if not waits:
            if there is None:
                what = "There is no such link"
            elif not same:
                what = "The link has other interfaces or configs"
            else:
                what = "A config of the link has changed, and is told anew"
            names = f"{link.source_id} to {link.target}, {link.wit_namespace}:{link.wit_package}"
            if self._send(PutLink(link=link), f"{what}: {names}.", app):
                plan.memory.links[key] = contents
        if error := self._attempts.error(key):
            errors.append(error)
        message = f"Putting link definition between {link.source_id} and {link.target}"
        return ScalerStatus(
            id=wanted.id,
            kind="LinkScaler",
            name=wanted.name,
            status=Status.FAILED if errors else Status.RECONCILING,
            message=" ".join(errors) or message,
        )

    def _clear_way(self, plan: "_Plan", rival: Link, errors: list[str]) -> None:
        """Delete a link of ours that stands where another is to be; others' stay."""
        key = link_key(rival.order)
        name = f"{rival.source_id} to {rival.target}, {rival.wit_namespace}:{rival.wit_package}"
        if key in self._wanted_links:
            errors.append(f"App {self._wanted_links[key]} has a link in its place: {name}")
        elif any(key in other.links for other in self._memory.apps.values()):
            reason = f"The link from {name} makes room for one to another target."
            self._send(DeleteLink(link=rival), reason, plan.app.name)
        else:
            errors.append(f"Somebody else put a link in its place; delete it: {name}")

    def _remove_copies(self, plan: "_Plan") -> int:
        """Stop what is marked as the app's and belongs to nothing of it; how much is left."""
        remaining = 0
        for owned in self._view.owned(plan.app.name):
            if (owned.kind, owned.entity) in plan.course.scalers:
                continue
            remaining += 1
            if self._view.is_alive(owned.host):
                command = _stop(owned.kind, owned.entity, owned.host, owned.copy)
                self._send(command, _why_gone(plan, owned, self._view), plan.app.name)
        return remaining

    def _remove_links(self, plan: "_Plan") -> int:
        app, links = plan.app.name, plan.memory.links
        wanted = {link_key(link.link.order) for link in plan.links}
        remaining = 0
        for key in [key for key in links if key not in wanted]:
            link = self._view.links_by_key.get(key)
            if link is None or key in self._wanted_links:
                del links[key]
                continue
            remaining += 1
            reason = f"App {app} has no link from {link.source_id} to {link.target} any more."
            self._send(DeleteLink(link=link), reason, app)
        return remaining

    def _remove_configs(self, plan: "_Plan", *, busy: bool) -> int:
        """Delete configs after whatever used them."""
        app, configs = plan.app.name, plan.memory.configs
        remaining = 0
        for name in list(configs):
            whose = self._wanted_configs[name][0] if name in self._wanted_configs else None
            if whose == app:
                continue
            if name not in self._view.configs or whose is not None:
                configs.remove(name)
                continue
            remaining += 1
            if self._whole or (not busy and name not in self._view.configs_of_links):
                reason = f"App {app} has no config {name} any more."
                self._send(DeleteConfig(name=name), reason, app)
        return remaining

    def _scaler_status(
        self,
        scaler: DesiredScaler,
        placement: Placement,
        copies: Mapping[str, Copy],
        work: _Work,
    ) -> ScalerStatus:
        unhealthy = sum(
            isinstance(copy, ObservedProvider) and copy.healthy is False
            for host, copy in copies.items()
            if host in placement.places
        )
        status, message = Status.DEPLOYED, ""
        if work.errors:
            status, message = Status.FAILED, " ".join(work.errors)
        elif work.pending:
            status = Status.RECONCILING
            message = f"Scaling {scaler.kind} on {work.pending} host(s)"
        elif unhealthy:
            status, message = Status.UNHEALTHY, f"Unhealthy provider on {unhealthy} host(s)"
        return _status_of(scaler, status, message)

    def _status_of_rival(self, scaler: DesiredScaler, placement: Placement) -> ScalerStatus:
        """Of what another app runs: as good as one's own when it is a provider just like it."""
        other = self._claims[scaler.kind, scaler.entity]
        copies = self._view.copies(scaler.kind, scaler.entity)
        if scaler.kind == "component" or any(
            copy.reference != scaler.reference for copy in copies.values()
        ):
            message = f"The id {scaler.entity} belongs to app {other}"
            return _status_of(scaler, Status.FAILED, message)
        missing = [host for host in placement.places if host not in copies]
        if missing:
            message = f"App {other} runs {scaler.entity}, not on as many hosts"
            return _status_of(scaler, Status.RECONCILING, message)
        return _status_of(scaler, Status.DEPLOYED, f"Run by app {other}")

    def _status_without_hosts(self, plan: "_Plan") -> AppStatus:
        if plan.course.goal is None:
            return AppStatus(status=Status.UNDEPLOYED)
        message = "No host is there to run it"
        return AppStatus(
            status=Status.WAITING,
            message=message,
            scalers=tuple(
                _status_of(scaler, Status.WAITING, message)
                for scaler in plan.course.scalers.values()
            ),
            version=plan.course.goal.version,
        )

    def _status(self, plan: "_Plan", scalers: list[ScalerStatus], remaining: int) -> AppStatus:
        memory, course = plan.memory, plan.course
        if course.goal is None:
            gone = not remaining and not memory.links and not memory.configs
            message = "" if gone else f"Removing {remaining} thing(s) that are left"
            status = Status.UNDEPLOYED if gone else Status.RECONCILING
            return AppStatus(status=status, message=message, gone=gone)
        status = aggregate([scaler.status for scaler in scalers] or [Status.DEPLOYED])
        messages = [scaler.message for scaler in scalers if scaler.message]
        if plan.missing:
            status = Status.FAILED
            messages.insert(0, "Shared components are not deployed: " + ", ".join(plan.missing))
        if remaining and status is Status.DEPLOYED:
            status = Status.RECONCILING
            messages.insert(0, f"Removing {remaining} thing(s) that are not wanted any more")
        if memory.rollout is not None and memory.rollout.phase == "rolled_back":
            done = "rolled back" if status is Status.DEPLOYED else "rolling back"
            messages.insert(
                0,
                f"Version {memory.rollout.target} failed, {done} to {memory.rollout.base}:"
                f" {memory.rollout.reason}",
            )
            status = Status.FAILED
        elif plan.message:
            messages.insert(0, plan.message)
            if status is not Status.FAILED:
                status = Status.RECONCILING
        elif status is Status.DEPLOYED:
            memory.stable = course.goal.version
        return AppStatus(
            status=status,
            message=", ".join(messages),
            scalers=tuple(scalers),
            version=(course.base or course.goal).version if plan.message else course.goal.version,
        )


@dataclass(slots=True)
class _Plan:
    """One app while a decision is made."""

    app: App
    memory: AppMemory
    course: Course
    listed: bool = True
    """Whether anybody wants to know its status."""
    links: list[DesiredLink] = field(default_factory=list)
    placements: dict[Entity, Placement] = field(default_factory=dict)
    message: str = ""
    """How far its rollout is."""
    missing: list[str] = field(default_factory=list)
    """Components by which it uses what no app shares."""


def _contradict(old: DesiredLink, new: DesiredLink) -> bool:
    """Whether two links can't stand side by side, or are the same one."""
    return old.link.key == new.link.key


def _whose(copy: Copy) -> str:
    app = owner(copy.annotations)
    return "somebody else" if app is None else f"app {app}"


def _count(copy: Copy | None) -> int:
    if copy is None:
        return 0
    return copy.count if isinstance(copy, ObservedComponent) else 1


def _stop(kind: EntityKind, entity: str, host: str, copy: Copy) -> Command:
    if kind == "provider":
        return StopProvider(host=host, provider=entity)
    return ScaleComponent(
        host=host,
        component=entity,
        reference=copy.reference,
        count=0,
        annotations=copy.annotations,
    )


def _why_gone(plan: _Plan, owned: Owned, view: View) -> str:
    where = view.label(owned.host)
    if plan.course.goal is None:
        state = "deleted" if plan.app.deleting else "undeployed"
        return f"App {plan.app.name} is {state}, so {owned.entity} stops on {where}."
    return f"App {plan.app.name} has no {owned.entity} any more; it stops on {where}."


def _status_of(scaler: DesiredScaler, status: Status, message: str = "") -> ScalerStatus:
    return ScalerStatus(
        id=scaler.id, kind=scaler.type, name=scaler.entity, status=status, message=message
    )
