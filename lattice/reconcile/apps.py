"""From what is stored of an app to what is decided for."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache

from lattice import errors
from lattice.manifest import DesiredApp, desired, parse
from lattice.reconcile.model import App, AppRecord

MANIFESTS_KEPT = 1_000
"""Manifests that are kept read, as decisions are made many times a second in a busy lattice."""


def resolve(record: AppRecord) -> App:
    """The app that a record is of; a manifest that can't be read is an error to show, not to raise.

    Of the other versions each is read when somebody goes back to it, and not before.
    """
    if record.deployed is None or record.deleting:
        return App(name=record.name, generation=record.generation, deleting=record.deleting)
    wanted: DesiredApp | None = None
    error = None
    if (text := record.manifest(record.deployed)) is None:
        error = f"version {record.deployed} is deployed, but not stored"
    else:
        try:
            wanted = _read(text, record.deployed)
        except errors.LatticeError as failure:
            error = f"version {record.deployed} can't be deployed: {failure.text}"
    return App(
        name=record.name,
        generation=record.generation,
        desired=wanted,
        previous=record.previous,
        fallbacks=_Fallbacks(record),
        error=error,
    )


class _Fallbacks(Mapping[str, DesiredApp]):
    """Versions of an app; one that can't be read is missing, which is said when it is needed."""

    def __init__(self, record: AppRecord) -> None:
        self._record = record

    def __getitem__(self, version: str) -> DesiredApp:
        if (text := self._record.manifest(version)) is not None:
            with suppress(errors.LatticeError):
                return _read(text, version)
        raise KeyError(version)

    def __iter__(self) -> Iterator[str]:
        return (kept.version for kept in self._record.versions)

    def __len__(self) -> int:
        return len(self._record.versions)


@lru_cache(maxsize=MANIFESTS_KEPT)
def _read(manifest: str, version: str) -> DesiredApp:
    return desired(parse(manifest.encode()), version)
