"""Compiled atlases: the same answers by another engine, in a space of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cellkin.atlas import Atlas
from cellkin.cli.main import app
from cellkin.core.errors import (
    ArtifactError,
    DataError,
    DecisionError,
    OutputError,
    RecipeError,
    SpaceMismatch,
)
from cellkin.core.progress import silent
from cellkin.core.records import Dataset
from cellkin.imaging.preprocess import Prepared
from cellkin.learning import engines, translating
from cellkin.learning.compiled import CompiledEncoder
from cellkin.learning.encoder import Encoder
from cellkin.learning.networks import Network
from cellkin.learning.opening import encoder_in
from cellkin.learning.threads import threads
from cellkin.learning.weights import initialize
from cellkin.report.engine import engine_lines
from cellkin.smear.compiled import compiled_finder
from cellkin.smear.jobs import packaged_finder
from cellkin.system import DecisionSupport, IndexOptions, index
from cellkin.system import compiling as compiling_module
from cellkin.system.compiling import CompileOptions, compile_atlas

for package in ("openvino", "nncf", "onnxruntime", "onnx"):
    try:
        engines.engine_module(package)
    except ArtifactError:
        pytest.skip(f"{package} is not installed: {engines.MISSING}", allow_module_level=True)


@pytest.fixture(scope="module")
def quick(atlas_folder: Path, smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small atlas in fp32; tests must not change it."""
    return compile_atlas(atlas_folder, smears, out=tmp_path_factory.mktemp("quick") / "atlas")


@pytest.fixture(scope="module")
def plain(atlas_folder: Path, smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas by the same network that tells no unknown kinds, which takes less to compile."""
    out = tmp_path_factory.mktemp("plain") / "atlas"
    return index(atlas_folder, smears, out=out, k=3, options=IndexOptions(novelty="off"))


@pytest.fixture(scope="module")
def rounded(plain: Path, smears: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain atlas in int8."""
    how = CompileOptions(precision="int8", most=1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translating, "MEASURED", 8)
        out = tmp_path_factory.mktemp("rounded") / "atlas"
        return compile_atlas(plain, smears, out=out, options=how)


def pictures(folder: Path, count: int = 5) -> np.ndarray:
    atlas = Atlas.open(folder)
    return np.stack([np.asarray(one) for one in atlas.pictures([range(count)])[0]])


def changed(picture: np.ndarray) -> np.ndarray:
    """A picture that no atlas has seen."""
    return np.clip(picture.astype(int) + 9, 0, 255).astype(np.uint8)


# --- what is said ---------------------------------------------------------------------------------


def test_a_compiled_atlas_answers_as_the_one_that_it_was_made_from(
    quick: Path, support: DecisionSupport
) -> None:
    images = [changed(one) for one in pictures(quick)]
    compiled = DecisionSupport.open(quick)
    for before, after in zip(support.decide(images), compiled.decide(images), strict=True):
        assert (after.label, after.votes, after.state) == (before.label, before.votes, before.state)
        assert [n.id for n in after.neighbors] == [n.id for n in before.neighbors]
        assert after.mean_distance == pytest.approx(before.mean_distance, rel=1e-4)
        assert after.distance_percentile == before.distance_percentile
        assert after.novelty is not None
        assert before.novelty is not None
        assert after.novelty.near == before.novelty.near
        assert after.novelty.unknown == before.novelty.unknown
        assert after.head is not None
        assert before.head is not None
        assert after.head.probability == pytest.approx(before.head.probability, abs=1e-4)


@pytest.mark.parametrize("which", ["quick", "rounded"])
def test_evidence_adds_up_whatever_the_engine_computes_in(
    which: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    found = DecisionSupport.open(folder).explain(changed(pictures(folder)[1]), gate=False)
    maps = (*found.pairs, *found.differences)
    assert maps
    assert all(one.exact and one.completeness < 1e-6 and not one.refused for one in maps)
    assert found.contrast is not None
    assert not found.contrast.on_query.refused


@pytest.mark.parametrize("which", ["quick", "rounded"])
def test_no_answer_depends_on_the_batch_nor_on_the_cores(
    which: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(which)
    images = pictures(folder)
    encoder = encoder_in(folder / "encoder")
    together = encoder.view(images)
    for row in (0, 3):
        alone = encoder.view(images[row : row + 1])
        assert np.array_equal(alone.maps[0], together.maps[row])
        assert np.array_equal(alone.features[0], together.features[row])
    with threads(3):
        others = encoder_in(folder / "encoder").view(images[::-1])
    assert np.array_equal(others.maps[::-1], together.maps)
    assert np.array_equal(encoder.vectors(images), together.features)


def test_a_compiled_encoder_makes_a_space_of_its_own(
    quick: Path, rounded: Path, support: DecisionSupport
) -> None:
    spaces = {support.atlas.space, Atlas.open(quick).space, Atlas.open(rounded).space}
    assert len(spaces) == 3
    cells = pictures(quick, 1)
    with pytest.raises(SpaceMismatch):
        Atlas.open(quick).check_space(support.atlas.encoder.embed(cells, ["a"]))
    assert len({Atlas.open(quick).id, support.atlas.id}) == 2


def test_what_changed_is_kept_and_told(quick: Path, rounded: Path) -> None:
    kept = Atlas.open(quick).facts["engine"]
    assert (kept["part"], kept["limits"], kept["holds"]) == ("test", "measured anew", True)
    assert kept["changes"]["calls"]["count"] == 0
    assert kept["changes"]["kin"] == 1.0
    told = "\n".join(engine_lines(Atlas.open(rounded).facts["engine"]))
    assert all(words in told for words in ("openvino int8", "p = ", "prediction sets"))
    assert "quickest" in engine_lines(None)[0]


def test_limits_are_measured_anew_where_the_cells_are_given(
    quick: Path, support: DecisionSupport
) -> None:
    new, old = Atlas.open(quick), support.atlas
    assert [part.ids for part in new.held_out] == [part.ids for part in old.held_out]
    assert new.calibration.counts() == old.calibration.counts()
    assert new.calibration.to_json() != old.calibration.to_json()
    assert new.facts["test"]["n"] == old.facts["test"]["n"]
    frozen, before = new.frozen, old.frozen
    assert frozen is not None
    assert before is not None
    assert frozen.space != before.space
    assert np.allclose(frozen.vectors, before.vectors, rtol=1e-3, atol=1e-4)


def test_limits_are_kept_where_the_cells_are_not_given(
    quick: Path, support: DecisionSupport
) -> None:
    old, seen = support.atlas, Atlas.open(quick)
    assert seen.frozen is not None
    assert old.frozen is not None
    encoders = (seen.encoder, seen.frozen.encoder)
    new = compiling_module._with_limits_kept(
        old, *encoders, pictures(quick, len(old.cells)), silent
    )
    assert new.calibration == old.calibration
    assert new.frozen is not None
    assert new.frozen.scores == old.frozen.scores
    assert (new.space, new.frozen.space) == (seen.space, seen.frozen.space)
    assert np.array_equal(new.vectors, seen.vectors)


def test_a_compiled_encoder_is_first_weights_and_makes_other_atlases(
    rounded: Path, smears: Dataset, support: DecisionSupport, tmp_path: Path
) -> None:
    network, _ = initialize(support.atlas.encoder.backbone, 2, str(rounded), size=48, seed=0)
    own = support.atlas.encoder.network.body.state_dict()
    found = network.body.state_dict()
    assert all(torch.equal(found[k], v) for k, v in own.items() if "num_batches" not in k)
    how = IndexOptions(novelty="off")
    made = Atlas.open(index(rounded, smears, out=tmp_path / "other", options=how))
    assert made.space == Atlas.open(rounded).space
    assert isinstance(made.encoder, CompiledEncoder)


def test_the_translated_finder_sees_what_the_packaged_one_sees() -> None:
    rng = np.random.default_rng(0)
    for sides in ((64, 64), (48, 80)):
        coarse = rng.integers(60, 256, (2, sides[0] // 8, sides[1] // 8, 3), dtype=np.uint8)
        images = coarse.repeat(8, axis=1).repeat(8, axis=2)
        for ours, theirs in zip(
            compiled_finder().seen(images), packaged_finder().seen(images), strict=True
        ):
            assert ours.shape == theirs.shape
            assert np.allclose(ours, theirs, atol=1e-3)


def test_deciding_by_a_compiled_atlas_needs_no_torch(
    quick: Path, smears: Dataset, support: DecisionSupport
) -> None:
    path = smears.samples[0].image.path
    code = "import sys; from cellkin import DecisionSupport; "
    code += f"print(DecisionSupport.open({str(quick)!r}).decide({str(path)!r}).label); "
    code += "assert not {'torch', 'timm', 'matplotlib', 'openTSNE', 'sklearn'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == support.decide(path).label


def test_a_profile_says_where_the_time_went(
    quick: Path, smears: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(sample.image.path) for sample in smears.samples[:3]]
    app(["decide", str(quick), *paths, "--profile"], standalone_mode=False)
    out, told = capsys.readouterr()
    assert len(out.splitlines()) == 3
    names = ("decoding", "preparing", "network", "quality gate", "neighbours")
    assert all(name in told for name in names)
    app(["decide", str(quick), *paths], standalone_mode=False)
    again, silent_about = capsys.readouterr()
    assert again == out
    assert "decoding" not in silent_about


def test_the_gate_measures_beside_the_network_what_it_measures_alone(
    support: DecisionSupport, quick: Path
) -> None:
    images = [changed(one) for one in pictures(quick, 3)]
    prepared = [Prepared(str(i), image) for i, image in enumerate(images)]
    looks = support.look(prepared)
    assert [look.measures for look in looks] == [None] * 3
    assert support.decide(looks) == support.decide(prepared)


def test_onnx_says_the_same(plain: Path, support: DecisionSupport, tmp_path: Path) -> None:
    made = compile_atlas(plain, out=tmp_path / "onnx", options=CompileOptions(engine="onnx"))
    facts = Atlas.open(made).facts["engine"]
    assert (facts["part"], facts["limits"], facts["name"]) == ("references", "kept", "onnx")
    images = pictures(made)
    encoder = encoder_in(made / "encoder")
    wanted = support.atlas.encoder.view(images)
    assert np.allclose(encoder.view(images).maps, wanted.maps, atol=1e-4)
    assert np.array_equal(encoder.view(images[2:3]).maps[0], encoder.view(images).maps[2])


# --- what is refused ------------------------------------------------------------------------------


def test_an_atlas_whose_calls_change_is_not_written(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = translating.translate

    def other(encoder: Encoder, folder: Path, **how: Any) -> CompiledEncoder:
        """Of a network that has learned nothing."""
        blank = Network(encoder.backbone, len(encoder.classes), size=48)
        return whole(Encoder(blank, encoder.preprocessor, encoder.classes), folder, **how)

    monkeypatch.setattr(translating, "translate", other)
    with pytest.raises(DecisionError, match=r"more than 1\.0 % of the calls change"):
        compile_atlas(plain, out=tmp_path / "atlas")
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(
    ("how", "error", "told"),
    [
        ({"engine": "openvin"}, ArtifactError, "openvino"),
        ({"precision": "fp8"}, ArtifactError, "fp32 or bf16 or int8"),
        ({"engine": "onnx", "precision": "int8"}, ArtifactError, "use fp32"),
        ({"precision": "int8"}, DataError, "compile ATLAS DATA"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_way_out(
    how: dict[str, Any], error: type[Exception], told: str, atlas_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(error) as found:
        compile_atlas(atlas_folder, out=tmp_path / "x", options=CompileOptions(**how))
    assert told in str(found.value)


def test_a_compiled_atlas_is_not_compiled_again_nor_written_over(
    quick: Path, atlas_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="compiled already"):
        compile_atlas(quick, out=tmp_path / "again")
    with pytest.raises(OutputError):
        compile_atlas(atlas_folder, out=quick)
    with pytest.raises(RecipeError, match="share"):
        CompileOptions(most=2.0)


def test_other_cells_than_the_atlas_was_made_from_are_refused(
    atlas_folder: Path, smears: Dataset, tmp_path: Path
) -> None:
    from dataclasses import replace

    some = replace(smears, samples=smears.samples[:40])
    with pytest.raises(DataError, match="not the cells"):
        compile_atlas(atlas_folder, some, out=tmp_path / "x")


def test_a_processor_without_bf16_is_told(
    atlas_folder: Path, smears: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "has_bf16", lambda: False)
    with pytest.raises(ArtifactError, match="bfloat16"):
        compile_atlas(
            atlas_folder, smears, out=tmp_path / "x", options=CompileOptions(precision="bf16")
        )
    monkeypatch.setattr(compiling_module, "has_bf16", lambda: False)
    asked = compiling_module._asked(CompileOptions(precision="quickest"), smears)
    assert asked == ["int8", "fp32"]


def test_a_missing_extra_is_named(
    quick: Path, atlas_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ArtifactError, match=r"cellkin\[fast\]"):
        compile_atlas(atlas_folder, out=tmp_path / "x")
    with pytest.raises(ArtifactError, match=r"cellkin\[fast\]"):
        DecisionSupport.open(quick).decide(pictures(atlas_folder)[0])


def test_no_engine_reports_to_its_makers(quick: Path) -> None:
    assert sys.modules["openvino_telemetry"] is None
    encoder_in(quick / "encoder").view(pictures(quick, 1))
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]


def test_a_compiled_atlas_runs_on_the_processor_alone_and_is_checked(
    quick: Path, tmp_path: Path
) -> None:
    import shutil

    with pytest.raises(ArtifactError, match="compiled for the processor"):
        Atlas.open(quick, device="cuda")
    copy = shutil.copytree(quick, tmp_path / "copy")
    path = copy / "encoder" / "model.bin"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ArtifactError):
        Atlas.open(copy)
