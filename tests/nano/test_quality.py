"""The shipped nano still does what its card says (assets/nano/README.md)."""

from pathlib import Path

import pytest

from studio.config import ROOT
from studio.nano.clips import NanoFolder
from studio.nano.evaluate import Tally, judge_model, judge_vae
from studio.nano.world import WORLDS

ASSETS = ROOT / "assets" / "nano"
COUNT = 8  # captions per language; a clip is seven times as large as those of 64x64 that 20 were for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not NanoFolder(ASSETS, ASSETS).has("nano"), reason="the nano checkpoint is not in this copy"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> NanoFolder:
    return NanoFolder(ASSETS, Path(tmp_path_factory.mktemp("judge")), "cpu")


def share(tallies: dict[str, Tally], name: str) -> float:
    return sum(tally.right[name] for tally in tallies.values()) / sum(tally.total[name] for tally in tallies.values())


def test_words_decide_colour_and_direction(folder: NanoFolder) -> None:
    with folder.open("nano") as maker:
        tallies = judge_model(maker, WORLDS["small"], COUNT, with_image=False)
        tally, quality = judge_vae(maker, WORLDS["small"], COUNT)
    assert share(tallies, "colour") >= 0.9 and share(tallies, "direction") >= 0.9
    assert sum(quality) / len(quality) >= 26
    assert share({"": tally}, "colour") >= 0.9


def test_the_first_image_is_the_first_frame(folder: NanoFolder) -> None:
    with folder.open("nano", with_image=True) as maker:
        tallies = judge_model(maker, WORLDS["small"], COUNT, with_image=True)
    seen = [value for tally in tallies.values() for value in tally.first_frame]
    assert sum(seen) / len(seen) >= 25
    assert share(tallies, "colour") >= 0.9
