"""Who gets the host's places: the rules one by one, and against a model of everything at once."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from host.actors.slots import NoMemory, Share, Slots


class Starter:
    """An actor that notes the order in which its calls begin."""

    def __init__(self, slots: Slots, name: str, begun: list[str], *, count: int = 100) -> None:
        self.slots = slots
        self.name = name
        self.begun = begun
        self.share = Share(count, self._begin)

    def call(self) -> bool:
        """Make a call; true when it runs at once."""
        if self.slots.enter(self.share):
            return True
        self.slots.wait(self.share, 1)
        return False

    def end(self) -> None:
        if self.slots.leave(self.share):
            self.slots.share_out()

    def _begin(self) -> None:
        self.slots.withdraw(self.share, 1)
        self.begun.append(self.name)


def actors(slots: Slots, *names: str, count: int = 100) -> tuple[list[Starter], list[str]]:
    begun: list[str] = []
    return [Starter(slots, name, begun, count=count) for name in names], begun


def test_no_more_run_than_there_are_places() -> None:
    (flooded,), _ = actors(Slots(5), "flooded")
    assert [flooded.call() for _ in range(7)] == [True] * 5 + [False] * 2


def test_actors_that_wait_take_turns_however_many_calls_they_have() -> None:
    (holder, flooded, quiet), begun = actors(Slots(3), "holder", "flooded", "quiet")
    for _ in range(3):
        holder.call()
    for _ in range(10):
        flooded.call()
    for _ in range(2):
        quiet.call()
    for _ in range(3):
        holder.end()
    flooded.end()
    assert begun == ["flooded", "quiet", "flooded", "quiet"]


def test_a_count_without_end_does_not_take_another_actors_turn() -> None:
    slots = Slots(4)
    begun: list[str] = []
    huge = Starter(slots, "huge", begun, count=10**9)
    small = Starter(slots, "small", begun, count=1)
    for _ in range(100):
        huge.call()
    small.call()
    huge.end()
    assert begun == ["small"]


def test_the_last_places_are_for_actors_that_run_nothing() -> None:
    slots = Slots(16)
    (flooded, quiet), _ = actors(slots, "flooded", "quiet")
    assert [flooded.call() for _ in range(16)].count(True) == 16 - slots.kept
    assert quiet.call(), "although calls of another actor wait"
    assert not quiet.call()


def test_an_actor_that_runs_nothing_goes_before_those_that_do() -> None:
    (busy, idle), begun = actors(Slots(2), "busy", "idle")
    busy.call()
    busy.call()
    busy.call()
    idle.call()
    busy.end()
    assert begun == ["idle"]


def test_an_actor_at_its_own_count_does_not_hold_up_others() -> None:
    slots = Slots(3)
    begun: list[str] = []
    single = Starter(slots, "single", begun, count=1)
    other = Starter(slots, "other", begun)
    assert [single.call(), single.call()] == [True, False]
    assert [other.call(), other.call(), other.call()] == [True, True, False]
    other.end()
    assert begun == ["other"]
    single.end()
    assert begun == ["other", "single"]


def test_a_call_that_gives_up_takes_its_actor_out_of_the_line() -> None:
    (first, second), begun = actors(Slots(1), "first", "second")
    first.call()
    second.call()
    second.slots.withdraw(second.share, 1)
    first.end()
    assert begun == []
    assert first.call(), "the place is free"


def test_no_instance_starts_while_those_that_run_hold_too_much_memory() -> None:
    memory = NoMemory()
    slots = Slots(100, memory=memory, bytes_max=800)
    (flooded, quiet), begun = actors(slots, "flooded", "quiet")
    assert flooded.call()
    memory.held_bytes = 700
    assert not flooded.call(), "seven eighths are for all"
    assert quiet.call(), "the rest is for those that run nothing"
    memory.held_bytes = 800
    assert not quiet.call()
    memory.held_bytes = 0
    flooded.end()
    assert begun == ["flooded", "quiet"]


def test_one_instance_may_run_whatever_the_bounds() -> None:
    (only,), _ = actors(Slots(1, bytes_max=1), "only")
    assert only.call()


class SlotsMachine(RuleBasedStateMachine):
    """Actors of all kinds on one host: nothing is lost, nobody starves, no bound is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = NoMemory()
        self.passed_over: dict[int, int] = {}

    @initialize(places=st.integers(1, 20), counts=st.lists(st.integers(1, 30), min_size=1))
    def start(self, places: int, counts: list[int]) -> None:
        self.slots = Slots(places, memory=self.memory, bytes_max=8)
        self.begun: list[int] = []
        self.shares = [
            Share(count, lambda index=index: self._begin(index))  # type: ignore[misc]
            for index, count in enumerate(counts[:6])
        ]
        self.waiting = [0] * len(self.shares)
        self.running = [0] * len(self.shares)

    def _begin(self, index: int) -> None:
        self.slots.withdraw(self.shares[index], 1)
        self.waiting[index] -= 1
        self.running[index] += 1
        assert self.waiting[index] >= 0, "a call began that did not wait"
        for other, share in enumerate(self.shares):
            if other != index and share.line is not None:
                self.passed_over[other] = self.passed_over.get(other, 0) + 1
        self.passed_over[index] = 0

    def _index(self, draw: int) -> int:
        return draw % len(self.shares)

    @rule(draw=st.integers(0, 5))
    def call(self, draw: int) -> None:
        index = self._index(draw)
        share = self.shares[index]
        had = self.slots.places - self.slots.taken
        if self.slots.enter(share):
            assert had > 0
            assert not self.waiting[index], "it overtook a call of its own actor"
            self.running[index] += 1
        else:
            self.slots.wait(share, 1)
            self.waiting[index] += 1

    @precondition(lambda self: any(self.running))
    @rule(draw=st.integers(0, 5), held=st.integers(0, 8))
    def end(self, draw: int, held: int) -> None:
        candidates = [index for index, running in enumerate(self.running) if running]
        index = candidates[draw % len(candidates)]
        self.running[index] -= 1
        self.memory.held_bytes = held if any(self.running) else 0
        if self.slots.leave(self.shares[index]):
            self.slots.share_out()

    @precondition(lambda self: any(self.waiting))
    @rule(draw=st.integers(0, 5))
    def give_up(self, draw: int) -> None:
        candidates = [index for index, waiting in enumerate(self.waiting) if waiting]
        index = candidates[draw % len(candidates)]
        self.waiting[index] -= 1
        self.slots.withdraw(self.shares[index], 1)

    @rule(draw=st.integers(0, 5), count=st.integers(1, 30))
    def resize(self, draw: int, count: int) -> None:
        share = self.shares[self._index(draw)]
        share.count = count
        self.slots.resized(share)
        self.slots.share_out()

    @invariant()
    def figures_agree(self) -> None:
        assert [share.running for share in self.shares] == self.running
        assert [share.waiting for share in self.shares] == self.waiting
        assert self.slots.taken == sum(self.running)
        assert self.slots.waiting_bytes == sum(self.waiting)

    @invariant()
    def no_more_run_than_places(self) -> None:
        assert self.slots.taken <= self.slots.places

    @invariant()
    def no_place_is_lost(self) -> None:
        """Nobody waits for what is there."""
        if self.memory.held_bytes:
            return
        left = self.slots.places - self.slots.taken
        for share in self.shares:
            if share.waiting and share.running < share.count:
                assert left <= (self.slots.kept if share.running else 0)

    @invariant()
    def nobody_is_passed_over_for_ever(self) -> None:
        """Between two turns every other actor has one, and one more when it runs nothing."""
        for index, passed in self.passed_over.items():
            if self.shares[index].line is not None and not self.running[index]:
                assert passed <= 2 * len(self.shares)

    def teardown(self) -> None:
        if not hasattr(self, "shares"):
            return
        self.memory.held_bytes = 0
        for _ in range(10_000):
            if not any(self.running):
                break
            self.end(0, 0)
        assert not any(self.waiting), "a call waits for ever"


SlotsMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, derandomize=True
)
TestSlotsAgainstAModel = SlotsMachine.TestCase
