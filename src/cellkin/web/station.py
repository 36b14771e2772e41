"""What the routes share: the model, the store, the processes that decode, and the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cellkin.core.errors import CellkinError
from cellkin.imaging.scale import png_of
from cellkin.system import DecisionSupport
from cellkin.web.decoding import Batch, Decoders, decoded
from cellkin.web.identity import Identities
from cellkin.web.looking import Lookers
from cellkin.web.model_thread import Deciding
from cellkin.web.printing import Printing
from cellkin.web.remembering import Remembered
from cellkin.web.settings import Settings
from cellkin.web.sharing import Rooms
from cellkin.web.store import Store

WARMING = "reference cell"


@dataclass(frozen=True, eq=False)
class Station:
    """One running workstation.

    Attributes:
        support: the atlas; its network is asked by `deciding` alone.
        kept: answers that are the same for every request, made for the first.
        lookers: write down who looked at which case. rooms: where each kind of work is done.
    """

    support: DecisionSupport
    store: Store
    settings: Settings
    deciding: Deciding
    decoders: Decoders
    identities: Identities
    evidence: Remembered
    printing: Printing
    rooms: Rooms
    lookers: Lookers
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
            evidence=Remembered(settings.evidence_bytes),
            printing=Printing(settings),
            lookers=Lookers(store),
            rooms=Rooms(settings.waiting, 2 * settings.max_upload_bytes),
        )

    def warm(self) -> None:
        """Start the processes, let the network see a cell and explain it once, so that neither the
        first upload nor the first look at the evidence need wait for that.
        """
        seen = self.support.atlas.encoder.preprocessor
        png = png_of(self.support.atlas.image(0), seen.um_per_pixel)
        try:
            asked = [  # as many people, so that every process starts
                self.decoders.submit(png, WARMING, Batch(f"{WARMING} {i}"))
                for i in range(self.settings.workers)
            ]
            first, *_ = [decoded(WARMING, one.result()) for one in asked]
            self.deciding.explain(first).result()
        except CellkinError:  # a reference cell that would not be taken as an upload, a grey one
            return

    def close(self) -> None:
        """Finish what was begun, then stop; the store is the caller's to close."""
        self.deciding.close()
        self.decoders.close()
        self.printing.close()
        self.lookers.close()
