"""A whole lattice inside a test: the real host and a real NATS, with what stands around it faked.

A test gets it from the fixtures ``lattice`` and ``actor`` (``lattice/pytest_plugin.py``). Whatever
takes time gives a ``Pending``: an asynchronous test awaits it, a synchronous one asks for its
``result()``.
"""

from lattice.testing.actors import Actor, Answer
from lattice.testing.background import Background, Pending
from lattice.testing.capabilities import Capability, Disturbance, Recorded
from lattice.testing.lattices import Lattice, Messages
from lattice.testing.stores import KeyValue

__all__ = [
    "Actor",
    "Answer",
    "Background",
    "Capability",
    "Disturbance",
    "KeyValue",
    "Lattice",
    "Messages",
    "Pending",
    "Recorded",
]
