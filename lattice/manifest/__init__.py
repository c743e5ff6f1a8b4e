"""Applications as people write them: wadm's manifests, read, judged and turned into what shall be.

``schema`` is the format, ``parsing`` bytes to manifest, ``validation`` what is wrong with one,
``resolution`` what it means in a lattice. Nothing here does I/O.
"""

from lattice.manifest.parsing import parse
from lattice.manifest.resolution import (
    APP_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_ANNOTATION,
    SCALER_ANNOTATION,
    SPREAD_ANNOTATION,
    DesiredApp,
    DesiredConfig,
    DesiredLink,
    DesiredScaler,
    Group,
    RolloutPolicy,
    SharedReference,
    desired,
    missing_shared,
)
from lattice.manifest.schema import Component, Manifest
from lattice.manifest.validation import Finding, Level, validate

__all__ = [
    "APP_ANNOTATION",
    "MANAGED_BY",
    "MANAGED_BY_ANNOTATION",
    "SCALER_ANNOTATION",
    "SPREAD_ANNOTATION",
    "Component",
    "DesiredApp",
    "DesiredConfig",
    "DesiredLink",
    "DesiredScaler",
    "Finding",
    "Group",
    "Level",
    "Manifest",
    "RolloutPolicy",
    "SharedReference",
    "desired",
    "missing_shared",
    "parse",
    "validate",
]
