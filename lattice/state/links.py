"""Links as values: who may call whom, decided without any I/O."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lattice import errors, limits
from lattice.names import Interface
from lattice.wire.control import ComponentSpec, DeleteLink, Link


def put(spec: ComponentSpec, link: Link) -> ComponentSpec:
    """The source's spec with the link added, or replaced where one to the same target stood.

    Raises:
        Conflict: the source has a link of that name for an overlapping interface to another target.
        InvalidRequest: the source has as many links as it may.
    """
    kept = []
    for other in spec.links:
        if other.key == link.key:
            if other.target == link.target:
                continue
            if _overlap(other.interfaces, link.interfaces):
                # wasmCloud's own words.
                raise errors.Conflict(
                    "link already exists with different target, consider deleting the existing link"
                    " or using a different link name"
                )
        kept.append(other)
    if len(kept) >= limits.LINKS_PER_SOURCE_MAX:
        raise errors.InvalidRequest(
            f"{link.source_id} has {len(kept)} links, as many as a source may have"
        )
    return spec.model_copy(update={"links": [*kept, link]})


def delete(spec: ComponentSpec, request: DeleteLink) -> tuple[ComponentSpec, Link | None]:
    """The source's spec without the link, and the link if there was one.

    Raises:
        Conflict: several links match; the request has to name the target.
    """
    matches = [link for link in spec.links if _matches(link, request)]
    if not matches:
        return spec, None
    if len(matches) > 1:
        targets = ", ".join(sorted(link.target for link in matches))
        raise errors.Conflict(f"several links match, to {targets}: name the target as well")
    return spec.model_copy(
        update={"links": [link for link in spec.links if link is not matches[0]]}
    ), matches[0]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a change of the table means for those who use the links."""

    put: tuple[Link, ...]
    """New ones, and ones whose interfaces or configs changed."""
    deleted: tuple[Link, ...]


class LinkTable:
    """Every link known here, by source."""

    def __init__(self) -> None:
        self._by_source: dict[str, list[Link]] = {}
        self._by_lookup: dict[tuple[str, str, str, str], list[Link]] = {}

    def __iter__(self) -> Iterator[Link]:
        for links in self._by_source.values():
            yield from links

    def replace(self, source: str, links: Iterable[Link]) -> Difference:
        """Take over the links of one source."""
        old = {(*link.key, link.target): link for link in self._by_source.get(source, ())}
        # A link stored under another source's key is nobody's: it must not reach that source.
        new = {(*link.key, link.target): link for link in links if link.source_id == source}
        self._forget(source)
        if new:
            self._by_source[source] = list(new.values())
            lookup = defaultdict(list)
            for link in new.values():
                lookup[link.key].append(link)
            self._by_lookup.update(lookup)
        return Difference(
            put=tuple(link for key, link in new.items() if old.get(key) != link),
            deleted=tuple(link for key, link in old.items() if key not in new),
        )

    def find(self, source: str, link_name: str, interface: Interface) -> Link | None:
        """The link that a call over an interface takes."""
        key = (source, link_name, interface.namespace, interface.package)
        for link in self._by_lookup.get(key, ()):
            if not link.interfaces or interface.name is None or interface.name in link.interfaces:
                return link
        return None

    def find_target(self, source: str, link_name: str, target: str) -> Link | None:
        """A link to this very target, for guests that name whom they call."""
        for link in self._by_source.get(source, ()):
            if link.target == target and link.name == link_name:
                return link
        return None

    def of(self, entity: str) -> list[Link]:
        """The links of which an entity is the source or the target."""
        return [link for link in self if entity in (link.source_id, link.target)]

    def _forget(self, source: str) -> None:
        for link in self._by_source.pop(source, ()):
            self._by_lookup.pop(link.key, None)


def _matches(link: Link, request: DeleteLink) -> bool:
    return (
        (link.name, link.wit_namespace, link.wit_package)
        == (request.name, request.wit_namespace, request.wit_package)
        and request.target in (None, link.target)
        and (request.interfaces is None or set(request.interfaces) == set(link.interfaces))
    )


def _overlap(some: list[str], others: list[str]) -> bool:
    """Whether two lists of interfaces have one in common; an empty list means all."""
    return not some or not others or not set(some).isdisjoint(others)
