"""WebAssembly actors as preemptive fibers under asyncio.

``Engine`` makes ``Code`` of modules and components, and holds the pool of instances; ``Execution``,
or what ``execution_of`` says for a kind of code, is one call on a fresh instance, or on one kept in
``Instances``; ``HostCalls`` is what the layer above gives a guest to reach, and ``World`` what it
finds through WASI; ``run_command`` runs a program that is no actor.
wasmtime is known here and nowhere else, and its C API in ``ffi`` only.
"""

from host.engine.code import Code
from host.engine.command import Finished, run_command
from host.engine.component import Component
from host.engine.component_execution import execution_of
from host.engine.descriptors import NOTHING, Directory, World
from host.engine.engine import Engine, EngineStatistics
from host.engine.execution import Execution
from host.engine.guest import CallLimits, HostCalls
from host.engine.module import Module
from host.engine.reuse import Instances, ReusePolicy, parse_policy
from host.engine.settings import EngineSettings

__all__ = [
    "NOTHING",
    "CallLimits",
    "Code",
    "Component",
    "Directory",
    "Engine",
    "EngineSettings",
    "EngineStatistics",
    "Execution",
    "Finished",
    "HostCalls",
    "Instances",
    "Module",
    "ReusePolicy",
    "World",
    "execution_of",
    "parse_policy",
    "run_command",
]
