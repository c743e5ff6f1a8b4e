"""What goes wrong in JetStream, in the lattice's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from lattice import errors
from lattice.bus.client import Forbidden

_OFF = frozenset({10039, 10076})
"""JetStream's words for an account without it, and for a server."""


class Refused(errors.Unavailable):
    """JetStream is there, and would not: it is full, say, or has no leader."""

    remedy = "see what JetStream has and may have with: lattice doctor"


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn nats-py's errors into ours; ``what`` says which store was being used.

    Raises:
        Conflict: a compare-and-set lost.
        Denied: NATS does not permit this user to ask; the text names the subject.
        InvalidRequest: the name of what was asked for can't be one.
        Unavailable: JetStream is off, full, has no leader, or did not answer in time.
    """
    try:
        yield
    except nats.js.errors.KeyWrongLastSequenceError as error:
        raise errors.Conflict(f"{what}: somebody else wrote it first") from error
    except nats.errors.NoRespondersError as error:
        raise _off(what) from error
    except nats.errors.BadSubjectError:
        raise errors.InvalidRequest(
            f"{what}: a name too long, or with what none may have"
        ) from None
    except Forbidden as error:
        raise errors.Denied(f"{what}: {error}") from error
    except nats.js.errors.APIError as error:
        if _says_off(error):
            raise _off(what) from error
        # Those that nats-py raises by itself have no description.
        reason = getattr(error, "description", None) or str(error)
        raise Refused(f"{what}: JetStream refused: {reason}") from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise errors.NatsAway(f"{what}: JetStream did not answer in time") from error
    except (nats.errors.Error, OSError) as error:
        raise errors.NatsAway(f"{what}: {str(error) or type(error).__name__}") from error


def _says_off(error: nats.js.errors.APIError) -> bool:
    # Those that nats-py raises by itself have no codes; its 503 is for questions nobody hears.
    code = getattr(error, "err_code", None)
    nobody = isinstance(error, nats.js.errors.ServiceUnavailableError) and code is None
    return nobody or code in _OFF


def _off(what: str) -> errors.NatsAway:
    return errors.NatsAway(f"{what}: JetStream does not answer; start nats-server with --jetstream")
