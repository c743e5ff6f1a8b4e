"""What reconcilers tell each other: who leads, whether it stands back. Ours alone, in JSON."""

from pydantic import ValidationError

from lattice.wire.control import Wire


class Leading(Wire):
    """The leader's word; also the value of the lease."""

    holder: str | None
    """Id of the process that leads, new at each of its starts; None when it has just resigned."""
    name: str = ""
    """Id of the host it runs in, or what else it is called."""
    epoch: int = 0
    """Grows with every term."""
    stepped_back: bool = False
    """Whether it does nothing, as another wadm serves this lattice."""


def parse(data: bytes) -> Leading | None:
    """Decode; None for what a stranger may have put there."""
    try:
        return Leading.model_validate_json(data)
    except ValidationError:
        return None
