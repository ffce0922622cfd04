"""Every hostile model folder is refused in a sentence: no traceback, no hang, little memory; sound ones stay sound."""

import re
import shutil
from pathlib import Path

import pytest

from tests.hostile.folder_cases import CASES
from tests.hostile.harms import Case, change
from tests.hostile.machine import Machine
from tests.hostile.probes import MODEL

EVERY = 30  # of the cases in the default run; all of them in the slow one


@pytest.fixture
def try_case(machine: Machine, model_dir: Path, tmp_path: Path):
    """try_case(case): what is wrong with the outcome, "" for nothing."""

    def run(case: Case) -> str:
        models, outputs = tmp_path / "models", tmp_path / "outputs"
        shutil.rmtree(models, ignore_errors=True)
        target = Path(shutil.copytree(model_dir / MODEL, models / MODEL))
        case.harm(target)
        got = machine.ask("model_folder", str(models), str(outputs))
        wanted = "refused" if case.says else "sound"
        if not got.is_well or got.kind != wanted:
            return f"{case.name}: {got}"
        if case.says and not (got.text.startswith(f"{case.component}: ") and re.search(case.says, got.text)):
            return f"{case.name}: {got.text}"
        return ""

    return run


def test_hostile_folders_are_refused(try_case) -> None:
    assert len(CASES) > 450
    wrong = list(filter(None, map(try_case, CASES[::EVERY])))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_every_hostile_folder_is_refused(try_case) -> None:
    wrong = list(filter(None, map(try_case, CASES)))
    assert not wrong, "\n".join(wrong)


def test_what_a_config_says_beside_its_sizes_is_not_passed_on(try_case) -> None:
    """An attention implementation of that name would be code from the hub."""
    for values in (
        {"attn_implementation": "kernels-community/x", "_attn_implementation": "kernels-community/x"},
        {"auto_map": {"AutoModel": "x--y.Z"}, "trust_remote_code": True, "_name_or_path": "/etc"},
        {"output_attentions": True, "torch_dtype": "x", "chunk_size_feed_forward": 7, "quantization_config": {"a": 1}},
    ):
        assert try_case(Case(str(values), "clip", change("clip", **values), "")) == ""
