"""What the routes share: the model, the store, the processes that decode, and the settings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cellkin.core.errors import CellkinError
from cellkin.imaging.scale import png_of
from cellkin.system import DecisionSupport
from cellkin.web.decoding import Decoders
from cellkin.web.evidence import EvidenceCache
from cellkin.web.identity import Identities
from cellkin.web.model_thread import Deciding
from cellkin.web.settings import Settings
from cellkin.web.sharing import Rooms
from cellkin.web.store import Store


@dataclass(frozen=True, eq=False)
class Station:
    """One running workstation.

    Attributes:
        support: the atlas; its network is asked by `deciding` alone.
        kept: answers that are the same for every request, made for the first.
        threads: hand images to the decoding processes. rooms: where each kind of work is done.
    """

    support: DecisionSupport
    store: Store
    settings: Settings
    deciding: Deciding
    decoders: Decoders
    identities: Identities
    evidence: EvidenceCache
    threads: ThreadPoolExecutor
    rooms: Rooms
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, support: DecisionSupport, store: Store, settings: Settings) -> Station:
        """Start the threads; processes start with the first image."""
        return cls(
            support=support,
            store=store,
            settings=settings,
            deciding=Deciding(support),
            decoders=Decoders(support.atlas.encoder.preprocessor, settings),
            identities=Identities(store, settings),
            evidence=EvidenceCache(settings.evidence_bytes),
            threads=ThreadPoolExecutor(settings.workers, "decoding"),
            rooms=Rooms(settings.waiting, 2 * settings.max_upload_bytes),
        )

    def warm(self) -> None:
        """Start the processes, let the network see a cell and explain it once, so that neither the
        first upload nor the first look at the evidence need wait for that.
        """
        seen = self.support.atlas.encoder.preprocessor
        png = png_of(self.support.atlas.image(0), seen.um_per_pixel)
        try:
            made = self.threads.map(
                lambda _: self.decoders.prepare(png, "reference cell"),
                range(self.settings.workers),
            )
            first, *_ = made
            self.deciding.explain(first).result()
        except CellkinError:  # a reference cell that would not be taken as an upload, a grey one
            return

    def close(self) -> None:
        """Finish what was begun, then stop; the store is the caller's to close."""
        self.threads.shutdown()
        self.deciding.close()
        self.decoders.close()
