"""What becomes of a stream's message that its actor did not handle: decided here, done elsewhere.

A delivery counts once the actor may have seen the message. While it can't have, because the actor
does not run, drains or has no room, the message is kept in flight and tried again: an actor's
absence uses up nothing of ``deliveries_max``, and nothing more is pulled meanwhile.
"""

from dataclasses import dataclass

from lattice import errors
from lattice.bus import StoredMessage
from providers.messaging.settings import HandlerSettings

UNSETTLED_MAX = 20
"""Deliveries beyond those of its link, before a message is buried that nobody lived to settle. Ends
of providers and of connections cost deliveries too, and are most often no fault of the message."""

REASON_CHARS_MAX = 500
"""Of a failure's text, in a header: lines of a protocol stay short."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """It was handled."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Give it back to the stream, to be delivered again."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Bury:
    """It will not be handled: into the dead letters, if there are any."""

    error: errors.LatticeError


Settlement = Acknowledge | TryAgain | Bury


def may_wait(error: errors.LatticeError) -> bool:
    """Whether the actor has not seen the message, and trying again may be all that it takes."""
    return isinstance(error, errors.NotExecuted) and error.retryable


def after_failure(
    error: errors.LatticeError, deliveries: int, settings: HandlerSettings, deliveries_max: int
) -> Settlement:
    """What to do after the delivery of a number failed."""
    if deliveries >= deliveries_max:
        return Bury(error)
    # The exponent is bounded before it is a float's undoing.
    doubled = settings.retry_s * 2.0 ** min(deliveries - 1, 64)
    return TryAgain(min(doubled, settings.retry_s_max))


def too_often(deliveries: int) -> errors.LatticeError:
    """Why a message is buried that comes again and again: nobody lived to say what became of it."""
    return errors.Unavailable(
        f"after {deliveries - 1} deliveries nobody has said what became of it: whoever had it may"
        " have ended over it"
    )


def dead_letter_headers(
    message: StoredMessage, error: errors.LatticeError, *, stream: str, consumer: str, actor: str
) -> dict[str, str]:
    """Why a message is among the dead letters, and where it came from."""
    return {
        "Lattice-Error-Code": error.code,
        "Lattice-Error": header_text(error.text),
        "Lattice-Actor": actor,
        "Lattice-Subject": header_text(message.subject),
        "Lattice-Stream": stream,
        "Lattice-Consumer": consumer,
        "Lattice-Sequence": str(message.sequence),
        "Lattice-Deliveries": str(message.deliveries),
    }


def header_text(text: str) -> str:
    """A text that can't be taken for more than a header's value, whoever wrote it."""
    printable = "".join(char if char.isascii() and char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:REASON_CHARS_MAX]
