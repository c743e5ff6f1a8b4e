"""Calls with an idempotency key: executed once while the key is remembered.

``rules`` decides, without any I/O; ``once`` remembers, in a bucket of the lattice.
"""

from lattice.idempotency.once import OncePerKey

__all__ = ["OncePerKey"]
