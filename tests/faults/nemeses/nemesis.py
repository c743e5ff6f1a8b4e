"""What every fault is."""

from typing import ClassVar

from tests.faults.arena import Arena
from tests.faults.schedule import Kind, Window


class Nemesis:
    """One kind of fault; each object is one time that it strikes: ``inject``, then ``heal``.

    A *total* one leaves nothing that could serve, so its bound counts from its end; any other is
    got over while it lasts, and its bound counts from its injection.
    """

    name: ClassVar[str]
    lasts_s: ClassVar[tuple[float, float]] = (1.0, 4.0)
    rest_s: ClassVar[float] = 4.0
    bound_s: ClassVar[float] = 5.0
    """For how long calls or writes may fail because of it."""
    total: ClassVar[bool] = False
    servers: ClassVar[frozenset[int]] = frozenset({1, 3})
    """Numbers of nats-servers with which it makes sense."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    @classmethod
    def kind(cls) -> Kind:
        shortest_s, longest_s = cls.lasts_s
        return Kind(
            name=cls.name,
            shortest_s=shortest_s,
            longest_s=longest_s,
            rest_s=max(cls.rest_s, cls.bound_s) if cls.total else cls.rest_s,
            felt_s=0.0 if cls.total else cls.bound_s,
        )

    async def inject(self, window: Window) -> str:
        """Begin; returns whom it strikes."""
        raise NotImplementedError

    async def heal(self) -> None:
        """End it."""

    def expect(self, met: bool, text: str) -> None:
        """Note something that must hold because of this fault."""
        self.arena.history.observe(self.name, "expectation", met=met, text=text)
