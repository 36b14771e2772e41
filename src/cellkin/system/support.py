"""`DecisionSupport`: open an atlas, look, decide, explain (section 4 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np

from cellkin.atlas import Atlas, decide, pictured, seen_from
from cellkin.core.arrays import Bytes
from cellkin.core.counts import Count
from cellkin.core.errors import DecisionError, ImageError
from cellkin.core.fits import Fits
from cellkin.core.progress import Progress, silent
from cellkin.core.records import Decision, Evidence, Features, ImageRef
from cellkin.core.stages import stage
from cellkin.core.units import SUBJECT, Owners
from cellkin.decision import COVERAGE
from cellkin.imaging.loading import BLOCK, each_prepared
from cellkin.imaging.preprocess import Prepared
from cellkin.smear.window import Window
from cellkin.system.atlas_facts import atlas_facts
from cellkin.system.counting import Album, Caller, CountOptions, Fields, count
from cellkin.system.explainer import Explainer, Look, together
from cellkin.system.fits import chosen, fits
from cellkin.system.gating import measures_of, measuring
from cellkin.system.windows import atlas_window, no_field

__all__ = ["DecisionSupport", "Look", "Prepared"]

Sure = Look | Prepared
"""What can be answered without reading anything."""
Image = Sure | str | Path | ImageRef | Bytes
Subject = str | None | Sequence[str | None] | Owners


class Seen(TypedDict, total=False):
    """What `look` can be told, see `DecisionSupport.look`."""

    um_per_pixel: float | None
    progress: Progress


class How(Seen, total=False):
    """What `decide` and `explain` can be told, see `DecisionSupport.decide`."""

    subject: Subject
    coverage: float
    gate: bool
    place: str | None


@dataclass(frozen=True)
class _Asked:
    """How images are looked at: scale, fields refused, measured by the gate, progress told."""

    um_per_pixel: float | None
    gate: bool
    progress: Progress
    measured: bool = True


class DecisionSupport:
    """Look at cells, decide on them, and say why (section 4 of the paper).

    >>> dss = DecisionSupport.open("atlas/")                            # doctest: +SKIP
    >>> dss.decide("cell.png").label                                    # doctest: +SKIP
    """

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self._places: dict[str | None, DecisionSupport] = {}

    @classmethod
    def open(
        cls, folder: str | Path, *, place: str | None = None, device: str = "auto"
    ) -> DecisionSupport:
        """Open an atlas folder.

        Args:
            place: where all cells are from that will be asked about, see `at`.

        Raises:
            ArtifactError: it is no atlas, or damaged. DecisionError: it does not know this place.
        """
        opened = cls(Atlas.open(folder, device=device))
        return opened if place is None else opened.at(place)

    def at(self, place: str | None) -> DecisionSupport:
        """The same atlas for cells of one place: its alignment, its references, its limits.

        Args:
            place: the atlas's own or one that it has adopted (`Atlas.places`); None where it knows
                but one.

        Raises:
            DecisionError: it does not know this place, or knows several and none is named.
        """
        if (seen := seen_from(self.atlas, place)) is self.atlas:
            return self
        return self._places.setdefault(place, DecisionSupport(seen))

    # the doors --------------------------------------------------------------------------------

    @overload
    def look(self, images: Image, **how: Unpack[Seen]) -> Look: ...  # type: ignore[overload-overlap]
    @overload
    def look(self, images: Sequence[Sure], **how: Unpack[Seen]) -> list[Look]: ...
    @overload
    def look(self, images: Sequence[Image], **how: Unpack[Seen]) -> list[Look | ImageError]: ...
    def look(
        self,
        images: Image | Sequence[Image],
        *,
        um_per_pixel: float | None = None,
        progress: Progress = silent,
    ) -> Any:
        """One forward pass over each image; a `Look` is not looked at again.

        Args:
            images: one image, or a sequence of them: a path, an `ImageRef`, an RGB array
                (H, W, 3) uint8, or a picture that is `Prepared` already.
            um_per_pixel: micrometres per pixel of all of them, where known better than by their
                files; only an encoder that sees so many micrometres asks for it.

        Returns:
            Of one image its look. Of a sequence a list in its order, in which an image that cannot
            be read has its `ImageError` in its place; no answer depends on the other images.

        Raises:
            ImageError: the one image cannot be read without guessing, or is a whole field.
            DecisionError: the sequence is empty, or a scale is given to an encoder that takes every
                picture whole.
        """
        how = _Asked(um_per_pixel, True, progress, measured=False)
        return self._answers(images, lambda looks, _: looks, None, how)

    @overload
    def decide(self, images: Image, **how: Unpack[How]) -> Decision: ...  # type: ignore[overload-overlap]
    @overload
    def decide(self, images: Sequence[Sure], **how: Unpack[How]) -> list[Decision]: ...
    @overload
    def decide(
        self, images: Sequence[Image], **how: Unpack[How]
    ) -> list[Decision | ImageError]: ...
    def decide(
        self,
        images: Image | Sequence[Image],
        *,
        subject: Subject = None,
        coverage: float = COVERAGE,
        gate: bool = True,
        um_per_pixel: float | None = None,
        place: str | None = None,
        progress: Progress = silent,
    ) -> Any:
        """The neighbours' verdict on one image or each of many, which are given as to `look`.

        Files are decoded in threads while the network looks at those before them.

        Args:
            subject: the person, where known: reference cells of the same person do not vote. One
                for all images, or a sequence with one (or None) for each; `Owners` where the images
                are known by slide or field instead.
            coverage: what the prediction set promises, in (0, 1).
            gate: ask the quality gate (see `cellkin.imaging.quality`), some milliseconds an image:
                a picture that fails gets a decision that abstains; and refuse whole fields, and
                crops whose cell lies aside (see `cellkin.smear.single`), which get no decision.
            um_per_pixel: see `look`. place: where the cells are from, see `at`.

        Returns:
            See `look`.

        Raises:
            ImageError: the one image cannot be read.
            DecisionError: there is no image, not one subject for each, fewer than k references are
                left, the coverage is impossible, or the place unknown or missing.
        """
        here = self.at(place)

        def answer(looks: Sequence[Look], owners: Owners) -> list[Decision]:
            moved = together(list(map(here.moved, looks)))
            asked = decide(here.atlas, moved, owners=owners, coverage=coverage)
            return here._seen_by(gate, asked, looks, coverage)

        return self._answers(images, answer, subject, _Asked(um_per_pixel, gate, progress))

    @overload
    def explain(self, images: Image, **how: Unpack[How]) -> Evidence: ...  # type: ignore[overload-overlap]
    @overload
    def explain(self, images: Sequence[Sure], **how: Unpack[How]) -> list[Evidence]: ...
    @overload
    def explain(
        self, images: Sequence[Image], **how: Unpack[How]
    ) -> list[Evidence | ImageError]: ...
    def explain(
        self,
        images: Image | Sequence[Image],
        *,
        subject: Subject = None,
        coverage: float = COVERAGE,
        gate: bool = True,
        um_per_pixel: float | None = None,
        place: str | None = None,
        progress: Progress = silent,
    ) -> Any:
        """Decisions with their reasons, and with what speaks against them (section 4.2).

        Arguments, answers and errors are those of `decide`.
        """
        here = self.at(place)

        def answer(looks: Sequence[Look], owners: Owners) -> list[Evidence]:
            found = here._explainer.explain(list(map(here.moved, looks)), owners, coverage)
            told = here._seen_by(gate, [one.decision for one in found], looks, coverage)
            return [replace(one, decision=d) for one, d in zip(found, told, strict=True)]

        return self._answers(images, answer, subject, _Asked(um_per_pixel, gate, progress))

    def finer(self, evidence: Evidence, parts: int) -> Evidence:
        """The evidence with a finer contrast map, see `Explainer.finer`."""
        return self.at(evidence.provenance.place or None)._explainer.finer(evidence, parts)

    def count(
        self,
        fields: Fields,
        *,
        um_per_pixel: float | None = None,
        subject: str | None = None,
        reviewed: Mapping[str, str] | None = None,
        every_field: bool = False,
        place: str | None = None,
        album: Album | None = None,
        progress: Progress = silent,
    ) -> Count:
        """The differential of fields and slides: every white cell found, cut, decided and counted.

        Args:
            fields: one or several: files, folders of them, or fields that were searched already.
            um_per_pixel: micrometres per pixel, where known better than by the files.
            subject: the person, as in `decide`.
            reviewed: id of a cell (`CountedCell.id`) -> the class (its name or title) that a person
                gave it, or "smudge cell", "artefact", "unidentifiable": not to be counted.
            every_field: count fields too that do not look like a blood smear.
            place: where the fields are from, see `at`.
            album: is shown the fields and cells while they are at hand.

        Returns:
            The count; a field that cannot be read, or is no blood smear, is named in it.

        Raises:
            ImageError: no field can be read.
            DecisionError: no field is given, or no white cell is in any.
            DataError: a reviewed cell is not in these fields, or of no class of this atlas; a field
                is given twice.
            RecipeError: an impossible scale.
        """
        how, here = CountOptions(um_per_pixel, subject, reviewed, every_field), self.at(place)

        def decide(some: Sequence[Prepared]) -> list[Decision]:
            return here.decide(some, subject=subject)

        caller = Caller(here.atlas, decide, here.facts(), lambda: here.window)
        return count(caller, fields, how, album=album, progress=progress)

    def fits(
        self, images: Sequence[Image], *, place: str | None = None, **how: Unpack[Seen]
    ) -> Fits:
        """Whether this atlas fits new cells, see `cellkin.system.fits`; asked before any call.

        Args:
            images: 20 cells or more from one place, as they come, given as to `look`.
            place: which place that is, see `at`.

        Raises:
            DataError: fewer than 20 of them can be read.
            DecisionError: the atlas has no held-out cells, or as `look` and `at`.
        """
        if (here := self.at(place)) is not self:
            return here.fits(images, **how)
        some, notes = chosen(images)
        looks = self.look(some, **how)
        good = [look for look in looks if isinstance(look, Look)]
        if faults := len(looks) - len(good):
            notes.append(f"{faults} pictures cannot be used and are left out")
        decisions = self.decide(good, gate=False) if good else []
        seen = [(look.image, one) for look, one in zip(good, decisions, strict=True)]
        return fits(self.atlas, seen, notes=notes, progress=how.get("progress", silent))

    # behind the doors -------------------------------------------------------------------------

    def _answers(
        self,
        images: Any,
        answer: Callable[[Sequence[Look], Owners], Sequence[Any]],
        subject: Subject,
        how: _Asked,
    ) -> Any:
        """The answers in the order of the images, made block by block."""
        many = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        asked = list(images) if many else [images]
        if not asked:
            raise DecisionError("no image was given", where="images", mend="give at least one")
        if how.um_per_pixel is not None and self.atlas.encoder.preprocessor.window is None:
            raise DecisionError(
                "this atlas takes every picture whole: a scale says nothing to it",
                where=f"{how.um_per_pixel} micrometres per pixel",
                mend="leave it away; to cut cells at this atlas's scale: cellkin find --crops DIR "
                "--like ATLAS",
            )
        found: list[Any] = []
        owners = _owners(subject, len(asked))
        looks = enumerate(self._looks(asked, how))
        while block := list(islice(looks, BLOCK)):
            good = {i: look for i, look in block if isinstance(look, Look)}
            answers = iter(answer([*good.values()], owners.part(good)) if good else ())
            found += [next(answers) if i in good else look for i, look in block]
        if many:
            return found
        if isinstance(found[0], ImageError):
            raise found[0]
        return found[0]

    def _looks(self, images: Sequence[Image], how: _Asked) -> Iterator[Look | ImageError]:
        unseen = [image for image in images if not isinstance(image, Look)]
        names = [_name(im, i) for i, im in enumerate(images) if not isinstance(im, Look)]
        sources = [ImageRef(Path(im)) if isinstance(im, str | Path) else im for im in unseen]
        prepared = each_prepared(
            sources,
            self.atlas.encoder.preprocessor,
            um_per_pixel=how.um_per_pixel,
            progress=how.progress,
            check=no_field(self.atlas) if how.gate else None,
        )
        fresh = self._seen(names, prepared, how.gate and how.measured)
        for image in images:
            yield image if isinstance(image, Look) else next(fresh)

    def _seen(
        self, names: Sequence[str], prepared: Iterator[Bytes | ImageError], gate: bool
    ) -> Iterator[Look | ImageError]:
        named = zip(names, prepared, strict=True)
        while block := list(islice(named, BLOCK)):
            good = [(name, image) for name, image in block if not isinstance(image, ImageError)]
            looks = iter(self._passed(good, gate) if good else ())
            for _, image in block:
                yield image if isinstance(image, ImageError) else next(looks)

    def _passed(self, named: Sequence[tuple[str, Bytes]], gate: bool) -> Iterator[Look]:
        """The forward pass over prepared pictures; the gate measures them meanwhile."""
        images = [image for _, image in named]
        with measuring(images if gate else ()) as found, stage("network"):
            views = self.atlas.encoder.view(np.stack(images))
        for i, (name, image) in enumerate(named):
            features = Features((name,), views.features[i : i + 1], self.atlas.space)
            seen = (views.maps[i], features, views.logits[i])
            yield Look(name, image, *seen, found[i] if gate else None)

    def moved(self, look: Look) -> Look:
        """The look where it lies among the cells of this atlas: by the alignment of its place."""
        stood = self.atlas.standpoint
        if stood is None or stood.alignment is None:
            return look
        return look.moved(stood.alignment, pooled=self.atlas.encoder.pooling == "average")

    def _seen_by(
        self, asked: bool, decisions: Sequence[Decision], looks: Sequence[Look], coverage: float
    ) -> list[Decision]:
        """The decisions with what only the pictures tell; the gate's part where it is asked."""
        images = [look.image for look in looks]
        found = [measures_of(look) for look in looks] if asked else None
        return pictured(self.atlas, decisions, images, found, coverage=coverage)

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.atlas, self.facts())

    # telling ----------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What this atlas is and how good it is, as plain data (`cellkin inspect --json`)."""
        return dict(self._facts)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return atlas_facts(self.atlas)

    @cached_property
    def window(self) -> Window:
        """How much of a field one picture of this atlas shows, see `atlas_window`.

        Raises:
            DataError: its pictures tell no scale.
        """
        return atlas_window(self.atlas)


def _name(image: Image, position: int) -> str:
    if isinstance(image, Prepared):
        return image.name
    return str(image) if isinstance(image, str | Path | ImageRef) else f"image {position + 1}"


def _owners(subject: Subject, count: int) -> Owners:
    """Whose so many images are."""
    if subject is None or isinstance(subject, str):
        return Owners(SUBJECT, (subject,) * count)
    if len(subject) != count:
        raise DecisionError(
            f"{len(subject)} subjects for {count} images",
            where="subject",
            mend="give one subject for all, or one (or None) for each image",
        )
    return subject if isinstance(subject, Owners) else Owners(SUBJECT, tuple(subject))
