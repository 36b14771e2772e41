"""Verbs about cells and atlases: decide, explain, inspect."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellkin.cli.console import json_line, plain, print_json, progress, resumable, span, talk
from cellkin.cli.options import (
    Address,
    Device,
    Engine,
    Json,
    Overwrite,
    Profile,
    Resume,
    Trust,
    Workers,
    examples,
    image_files,
    images_of,
    page_name,
)
from cellkin.cli.pretraining import encoder_lines
from cellkin.cli.profiling import profiled
from cellkin.core.artifacts import csv_line, refuse_existing, write_pieces
from cellkin.core.decisions import SAME_IMAGE
from cellkin.core.errors import ImageError, OutputError, RecipeError
from cellkin.core.numbers import percent
from cellkin.core.records import NOTICE, Decision

if TYPE_CHECKING:
    from cellkin.core.kept import Jobs
    from cellkin.system import DecisionSupport
    from cellkin.system.deciding import DecideWork

COLUMNS = (
    *("image", "label", "clinical", "state", "reasons", "quality", "agreement", "mean_distance"),
    *("distance_percentile", "prediction_set", "subject"),
)
NO_OUT = "add --out FILE, or leave --resume away"
CARD = "model_card.md"
TOGETHER = 16  # images whose evidence is in memory at once
DRAWN = "The reference cells of this atlas are drawn: it says nothing about real cells. "
AtlasFolder = Annotated[Path, typer.Argument(metavar="ATLAS", help="An atlas folder.")]
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of images.")
]
Subject = Annotated[
    str | None,
    typer.Option(help="The person, where known: reference cells of the same person do not vote."),
]

Coverage = Annotated[
    float,
    typer.Option(
        min=0.01, max=0.999, help="What the prediction sets promise, for cells of a new subject."
    ),
]

PlaceName = Annotated[
    str | None,
    typer.Option(
        "--place",
        metavar="NAME",
        help="Where the cells are from: the place of the atlas, or one that it has adopted "
        "(cellkin inspect ATLAS names them).",
    ),
]


Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="Micrometres per pixel of the images, for an atlas that sees so many micrometres, "
        "where their files do not say it.",
    ),
]


@examples("""
cellkin decide atlas cell.png
cellkin decide atlas cell.png --subject P7 --coverage 0.9
cellkin decide adopted cells/ --place Chula --json > decisions.jsonl
cellkin decide atlas cells/ --json > decisions.jsonl
cellkin decide atlas cells/ --out decisions.csv --workers 4
cellkin decide atlas cells/ --out decisions.jsonl --engine ray --resume
""")
def decide(
    atlas: AtlasFolder,
    images: Images,
    subject: Subject = None,
    coverage: Coverage = 0.95,
    mpp: Mpp = None,
    place: PlaceName = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one job.")] = 256,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a CSV table, or JSON lines (.jsonl), here."),
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
    trust: Trust = None,
    device: Device = "auto",
    profile: Profile = False,
    json: Json = False,
) -> None:
    """Decide on images by their nearest reference cells; with --json one object per line.

    Images that cannot be read are named at the end, with exit status 2; all others are decided.
    With --out what is done is kept beside it, and --resume goes on.
    """
    from cellkin.core.engine import Crew
    from cellkin.core.kept import Jobs
    from cellkin.system.deciding import WORTH, Asked, DecideWork

    if out is not None and not overwrite:
        refuse_existing(out)
    if resume and out is None:
        raise RecipeError("only what is written to a file is kept", where="--resume", mend=NO_OUT)
    asked = Asked(atlas.expanduser(), device, subject, coverage, mpp, place)
    dss, state = asked.opened().at(place), asked.state
    blocks = [block for files in image_files(images) for block in files.blocks(batch_size)]
    gpus, worth = int(dss.atlas.encoder.on_gpu), len(blocks) if profile else WORTH
    jobs = Jobs(Crew(engine, address, workers, gpus=gpus, worth=worth), out, resume)
    works = [DecideWork(files, asked, state) for files in blocks]
    with profiled(profile, sum(len(files.names) for files in blocks)):
        _decide(works, jobs, dss, json=json)
    if not json:
        talk(DRAWN * dss.atlas.provenance.drawn + NOTICE)


def _decide(works: Sequence[DecideWork], jobs: Jobs, dss: DecisionSupport, *, json: bool) -> None:
    """Decide, and tell or write the decisions as they come in their order."""
    from cellkin.core.kept import Answers
    from cellkin.imaging.loading import unusable
    from cellkin.system.deciding import decide_all, decided

    faults: list[ImageError] = []

    def answered(work: DecideWork) -> Iterator[Decision]:
        for one in decided(answers, work):
            if isinstance(one, ImageError):
                faults.append(one)
            else:
                yield one
        answers.forget(work.key)

    with progress() as tell, resumable(jobs.out), Answers(jobs) as answers:
        done = decide_all(works, answers, jobs, progress=tell)
        if jobs.out is not None:
            deque(done, maxlen=0)  # all are kept before one is written
            each = (one for work in works for one in answered(work))
            write_pieces(jobs.out, _written(each, dss, table=jobs.out.suffix.lower() == ".csv"))
            answers.remove()
        else:
            each = (one for work in done for one in answered(work))
            for line in _written(each, dss) if json else _said(each, dss):
                sys.stdout.write(line)
    if faults:
        raise unusable(faults)
    if jobs.out is not None:
        typer.echo(jobs.out)


def _said(decisions: Iterable[Decision], dss: DecisionSupport) -> Iterator[str]:
    from cellkin.report.telling import sentence

    for number, decision in enumerate(decisions):
        if not number:
            _tell_subject(decision)
        yield sentence(decision, dss.atlas.labels) + "\n"


def _written(
    decisions: Iterable[Decision], dss: DecisionSupport, *, table: bool = False
) -> Iterator[str]:
    """Lines of JSON, or of a table."""
    provenance = dss.atlas.provenance.to_json()
    if table:
        yield csv_line(COLUMNS)
    for number, decision in enumerate(decisions):
        if not number:
            _tell_subject(decision)
        if table:
            yield csv_line(_row({**decision.to_json(), **_first(decision, dss)}))
        else:
            known = {"in_atlas": decision.twin == SAME_IMAGE, **_first(decision, dss)}
            yield json_line({**decision.to_json(), **known, "provenance": provenance})


def _first(decision: Decision, dss: DecisionSupport) -> dict[str, Any]:
    from cellkin.report.first_line import sureness_json

    return sureness_json(decision, dss.atlas.labels)


def _row(told: dict[str, Any]) -> list[object]:
    data = plain(told)
    cells = (data[name] for name in COLUMNS)
    return [" ".join(map(str, c)) if isinstance(c, list) else c for c in cells]


def _answered(
    paths: list[Path], answer: Callable[[list[Path]], Sequence[Any]]
) -> Iterator[tuple[int, Any]]:
    """Positions and answers, some images together; raises at the end for all unusable ones."""
    from cellkin.imaging.loading import unusable

    faults = []
    with progress() as tell:
        for start in range(0, len(paths), TOGETHER):
            for i, found in enumerate(answer(paths[start : start + TOGETHER]), start):
                tell("deciding", i + 1, len(paths))
                if isinstance(found, ImageError):
                    faults.append(found)
                else:
                    yield i, found
    if faults:
        raise unusable(faults)


def _tell_subject(decision: Decision) -> None:
    """Whether the atlas knows the subject that was named, if one was."""
    if decision.subject is not None:
        from cellkin.report.telling import left_out_words

        talk(left_out_words(decision))


@examples("""
cellkin explain atlas cell.png --out why
cellkin explain atlas cells/ --out why --subject P7 --coverage 0.9
cellkin explain atlas cell.png --out why --fine 4
cellkin explain atlas cell.png --out why --paper
""")
def explain(
    atlas: AtlasFolder,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="Folder for pages, pictures and data.")],
    overwrite: Overwrite = False,
    fine: Annotated[
        int,
        typer.Option(min=1, max=8, help="Divide each position of the contrast map into N x N."),
    ] = 1,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also one figure of all, figure.png (300 dpi) and .svg.")
    ] = False,
    subject: Subject = None,
    coverage: Coverage = 0.95,
    mpp: Mpp = None,
    place: PlaceName = None,
    trust: Trust = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write the evidence: a page per image that opens without a network, PNGs and JSON."""
    from cellkin import report
    from cellkin.report.telling import sentence
    from cellkin.system import DecisionSupport
    from cellkin.system.support import How

    paths = images_of(images)
    if out.is_file():
        raise OutputError("--out is a file", where=out, mend="give a folder")
    if not overwrite:
        refuse_existing(out)
    dss = DecisionSupport.open(atlas, device=device).at(place)
    how = How(subject=subject, coverage=coverage, um_per_pixel=mpp)
    answers = _answered(paths, lambda some: dss.explain(some, **how))
    for told, (i, evidence) in enumerate(answers):
        if not told:
            _tell_subject(evidence.decision)
        folder = out if len(paths) == 1 else out / page_name(paths[i], i)
        if fine > 1:
            evidence = dss.finer(evidence, fine)
        report.save_all(evidence, folder, paper=paper)
        if json:
            print_json(
                {
                    **evidence.to_json(),
                    **_first(evidence.decision, dss),
                    "page": str(folder / "evidence.html"),
                }
            )
        else:
            talk(sentence(evidence.decision, dss.atlas.labels))
            typer.echo(folder / "evidence.html")


@examples("""
cellkin inspect atlas
cellkin inspect atlas --json
cellkin inspect encoder
""")
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An atlas or encoder folder.")],
    json: Json = False,
) -> None:
    """Say what an atlas or encoder is and how good it is."""
    from cellkin.system import DecisionSupport, encoder_facts

    path = path.expanduser()
    alone = (path / "encoder.json").is_file()
    facts = encoder_facts(path) if alone else DecisionSupport.open(path, device="cpu").facts()
    if json:
        print_json(facts)
        return
    lines = [*encoder_lines(facts), f"notice      {NOTICE}"] if alone else _description(facts)
    if not alone and (path / CARD).is_file():
        lines.insert(-1, f"card        {path / CARD}")
    for line in lines:
        typer.echo(line)


def _description(facts: dict[str, Any]) -> list[str]:
    split, test = facts["split"], facts["test"]
    classes = ", ".join(f"{n} {facts['titles'][name]}" for name, n in facts["classes"].items())
    parts = ", ".join(f"{split[part]} {part}" for part in ("train", "val", "calibration", "test"))
    lines = [
        f"atlas       {facts['cells']} reference cells: {classes}",
        f"data        {facts['dataset']}; {facts['specimen'] or 'specimen not stated'}; "
        f"{facts['stain'] or 'stain not stated'}",
        f"decides by  {facts['k']} neighbours, {facts['distance']} distance, {facts['backbone']}, "
        f"space {facts['space'][:8]}",
        f"split       by {split['unit']}, seed {split['seed']}: {parts}"
        + (f" ({split['note']})" if split["note"] else ""),
    ]
    if facts.get("sharpening"):
        lines.append(f"sharpening  {facts['sharpening']}")
    if window := facts.get("window"):
        lines.append(f"window      {_window(window)}")
    if facts["clinical"] is None:
        lines.append("clinical    this atlas knows no lymphoblasts and cannot exclude one")
    if test:
        lines.append(
            f"test        accuracy {percent(test['accuracy'])} of {test['n']} cells; "
            f"{span(test['interval'])}; balanced {percent(test['balanced_accuracy'])}"
        )
        if test["sensitivity"] is not None:
            lines.append(
                f"            sensitivity {percent(test['sensitivity'])}, "
                f"specificity {percent(test['specificity'])}"
            )
    lines += _measured(facts)
    lines += _places(facts)
    made = facts["provenance"]
    lines.append(f"made        {made['created']} by cellkin {made['version']}, {made['recipe']}")
    lines.append(f"notice      {NOTICE}")
    return lines


def _places(facts: dict[str, Any]) -> list[str]:
    """What it looks by; cells by place, the robustness index, the shortcut meter, and warnings."""
    from cellkin.report import engine_lines, place_limits, place_rows

    lines = engine_lines(facts.get("engine"))
    lines += [f"places      {name}: {told}" for name, told in place_rows(facts, facts["titles"])]
    return lines + [f"warning     {told}" for told in place_limits(facts)]


def _window(told: dict[str, Any]) -> str:
    """How much of a field one picture shows."""
    if told["source"] == "recipe":
        return f"{told['um']:g} micrometres of every picture, by its own scale"
    by = f"by {told['counted']} {told['source']} in them"
    if told["um"] is not None:
        return f"its pictures show {told['um']:.1f} micrometres, {by}"
    return f"its pictures are {told['cells']:.1f} white cells wide, {by}"


def _measured(facts: dict[str, Any]) -> list[str]:
    """Prediction sets, sure calls, triage, map and stored maps, where this atlas has them."""
    from cellkin.report.first_line import sure_words

    lines = []
    if sets := facts["conformal"]:
        units = ", ".join(f"{n} {facts['titles'][name]}" for name, n in sets["units"].items())
        note = f" ({sets['note']})" if sets["note"] else ""
        lines.append(f"sets        calibrated by {sets['unit']}: {units}{note}")
    if told := sure_words(facts.get("sure")):
        lines.append(f"sure        {told}")
    if curve := facts.get("triage"):
        name = "errors" if curve["missed"] is None else "missed"
        what = "call is wrong" if curve["missed"] is None else "lymphoblast is missed"
        clean = [a for a, v in zip(curve["automatic"], curve[name], strict=True) if v == 0]
        lines.append(f"triage      the surest {percent(max(clean, default=0.0))} before a {what}")
    if measured := facts.get("map"):
        lines.append(f"map         trustworthiness {measured['trustworthiness']:.3f}")
    if verified := facts.get("verified"):
        lines.append(f"verified    {verified}")
    if stored := facts.get("maps"):
        lines.append(f"maps        {stored['precision']}, {stored['bytes'] / 1e6:.1f} MB")
    return lines
