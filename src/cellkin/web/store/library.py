"""The half of `Store` that keeps what is never decided on: atlases, and pictures of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cellkin.core.records import LabelSet
from cellkin.web.store import drift, gallery, originals, registry
from cellkin.web.store.database import Database
from cellkin.web.store.logbook import Logbook
from cellkin.web.store.records import Original


class Library(Logbook):
    """Atlases that decided, and the pictures of cells."""

    def __init__(self, database: Database, keeping: originals.Keeping) -> None:
        super().__init__(database)
        self.keeping = keeping
        self._pictures: dict[str, registry.PictureSource] = {}

    # atlases ----------------------------------------------------------------------------------

    def register_atlas(
        self,
        atlas: str,
        labels: LabelSet,
        facts: Mapping[str, Any],
        pictures: registry.PictureSource | None = None,
    ) -> None:
        """Tell the store of an atlas before cells that it decided are added.

        Args:
            atlas: its id, as in `NewCell.provenance["atlas"]`.
            facts: `DecisionSupport.facts()`; the report prints its numbers.
            pictures: reference ids -> PNGs; small copies of the kin of held cells are kept with
                them, so that a report needs no atlas. Without it reports show no pictures of kin.
        """
        with self.database.writing() as tx:
            registry.register(tx, atlas, labels, facts)
        if pictures is not None:
            self._pictures[atlas] = pictures

    def atlas(self, atlas: str) -> tuple[LabelSet, dict[str, Any]]:
        """Classes and facts of a registered atlas.

        Raises:
            NotFound: it was not registered.
        """
        with self.database.reading() as conn:
            return registry.get(conn, atlas)

    def reference_pictures(self, atlas: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Small pictures (PNG) of reference cells, as far as they are kept."""
        with self.database.reading() as conn:
            return registry.pictures(conn, atlas, ids)

    # pictures ---------------------------------------------------------------------------------

    def image(self, cell_id: str) -> bytes:
        """The prepared picture of a cell, PNG. Raises NotFound."""
        with self.database.reading() as conn:
            return gallery.image(conn, cell_id)

    def original(self, cell_id: str) -> Original:
        """What is known of the file that a cell was uploaded as.

        Raises:
            NotFound: no such cell, or its file was not kept.
        """
        with self.database.reading() as conn:
            return originals.of_cell(conn, cell_id)

    def original_bytes(self, sha256: str) -> bytes:
        """The bytes of an original, as they were uploaded.

        Raises:
            NotFound: it was not kept. ArtifactError: it is gone from where it was kept.
        """
        with self.database.reading() as conn:
            return originals.read(conn, sha256, self.keeping.shelf)

    def daily_looks(self, atlas: str) -> drift.Daily:
        """What was measured of the cells that an atlas decided, by day, see `drift.daily`."""
        with self.database.reading() as conn:
            return drift.daily(conn, atlas)
