"""What a host says of itself for auctions and requirements to match on; changed while it runs."""

import platform
import sys
from collections.abc import Mapping

from lattice import errors, limits

OWN_PREFIX = "hostcore."
"""Labels that begin so are the host's own; nobody sets or deletes them."""


class Labels:
    """One host's labels. What was changed at run time is forgotten when it stops."""

    def __init__(self, configured: Mapping[str, str]) -> None:
        self._labels = _own_labels() | dict(configured)

    def all(self) -> dict[str, str]:
        """A copy, in the order of the keys."""
        return dict(sorted(self._labels.items()))

    def satisfy(self, constraints: Mapping[str, str]) -> bool:
        """Whether every constraint is one of the labels."""
        return constraints.items() <= self._labels.items()

    def put(self, key: str, value: str) -> None:
        """Set a label.

        Raises:
            InvalidRequest: one of the host's own, empty, too long, or too many.
        """
        if is_own(key):
            # wasmCloud's words.
            raise errors.InvalidRequest("hostcore.* labels cannot be set dynamically")
        if not key or max(len(key), len(value)) > limits.LABEL_CHARS_MAX:
            raise errors.InvalidRequest(
                f"a label's key has 1 to {limits.LABEL_CHARS_MAX} characters, its value as many"
                " at the most"
            )
        if key not in self._labels and len(self._labels) >= limits.LABELS_MAX:
            raise errors.InvalidRequest(
                f"this host has {len(self._labels)} labels, as many as it may"
            )
        self._labels[key] = value

    def delete(self, key: str) -> bool:
        """Delete a label; False when there was none.

        Raises:
            InvalidRequest: one of the host's own, which wasmCloud would let go.
        """
        if is_own(key):
            raise errors.InvalidRequest("hostcore.* labels cannot be deleted dynamically")
        return self._labels.pop(key, None) is not None


def is_own(key: str) -> bool:
    return key.lower().startswith(OWN_PREFIX)


def _own_labels() -> dict[str, str]:
    """What every host says of its machine, in wasmCloud's spelling."""
    return {
        "hostcore.arch": platform.machine(),
        "hostcore.os": sys.platform,
        "hostcore.osfamily": "unix",
    }
