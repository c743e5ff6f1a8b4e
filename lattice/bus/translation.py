"""What goes wrong in JetStream, in the lattice's words."""

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from lattice import errors
from lattice.bus.client import Forbidden


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn nats-py's errors into ours; ``what`` says which store was being used.

    Raises:
        Conflict: a compare-and-set lost.
        Denied: NATS does not permit this user to ask; the text names the subject.
        Unavailable: JetStream is off, has no leader, or did not answer in time.
    """
    try:
        yield
    except nats.js.errors.KeyWrongLastSequenceError as error:
        raise errors.Conflict(f"{what}: somebody else wrote it first") from error
    except (nats.js.errors.ServiceUnavailableError, nats.errors.NoRespondersError) as error:
        raise errors.NatsAway(
            f"{what}: JetStream does not answer; start nats-server with --jetstream"
        ) from error
    except Forbidden as error:
        raise errors.Denied(f"{what}: {error}") from error
    except nats.js.errors.APIError as error:
        # Those that nats-py raises by itself have no description.
        reason = getattr(error, "description", None) or str(error)
        raise errors.NatsAway(f"{what}: JetStream refused: {reason}") from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise errors.NatsAway(f"{what}: JetStream did not answer in time") from error
    except (nats.errors.Error, OSError) as error:
        raise errors.NatsAway(f"{what}: {str(error) or type(error).__name__}") from error
