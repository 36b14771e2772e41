"""What belongs together, from wherever it is known: one grouping.

A reader documents that fields overlap, a search finds more that do, the audit finds images that
show the same. Each is a set of links; the groups are the connected components of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Links = Iterable[Sequence[str]]
"""Names that belong together, two or more each."""


def clusters(links: Links) -> tuple[tuple[str, ...], ...]:
    """Names that hang together by links, each cluster sorted, the largest first."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for link in links:
        for name in link:
            one, other = sorted((root(link[0]), root(name)))
            parent[other] = one
    found: dict[str, list[str]] = defaultdict(list)
    for name in parent:
        found[root(name)].append(name)
    return tuple(sorted((tuple(sorted(c)) for c in found.values()), key=lambda c: (-len(c), c)))


def grouped(own: Mapping[str, str], links: Links) -> dict[str, str]:
    """The group of every image: its own, joined with every group that a link leads to.

    Args:
        own: image -> what it belongs to so far: its subject or group, its field, or itself.
        links: images that belong together: documented, located or audited. Images that `own` does
            not hold are passed over.

    Returns:
        image -> its group; joined ones are called by all their names, "a+b".
    """
    joined = clusters([own[i] for i in link if i in own] for link in links)
    names = {name: "+".join(cluster) for cluster in joined for name in cluster}
    return {image: names.get(group, group) for image, group in own.items()}
