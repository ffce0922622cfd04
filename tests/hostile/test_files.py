"""Hostile pictures, settings and latents: a sentence each. And hypothesis makes more of headers, configs and settings.

Every case has the limits of tests/hostile/machine.py: 20 seconds, 1 GB, no traceback, nothing unprintable.
"""

import json
import math
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hostile.file_cases import FILE_CASES, MODEL, PLAN, SETTINGS
from tests.hostile.harms import CONFIGS, DIT
from tests.hostile.machine import Machine
from tests.hostile.probes import MODEL as VIDEO_MODEL

FEW, MANY = 12, 400
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from((0, -1, 1, 10**9, 2**31, 2**63, 10**400)),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(("", "F32", "\x1b[2J", "../x", "\ud800", "nan")),
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner), max_leaves=9
)
Try = Callable[[Any], str]


@pytest.fixture(scope="module")
def folder(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one sound model, whose files the fuzz changes and puts back."""
    made = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(model_dir / VIDEO_MODEL, made / VIDEO_MODEL)
    return made


def test_hostile_files_are_refused(machine: Machine, tmp_path: Path) -> None:
    wrong = []
    for number, case in enumerate(FILE_CASES):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "case"
        case.make(path)
        got = machine.ask(case.kind, str(path))
        right = got.is_well and (re.search(case.says, got.text) if case.says else got.kind == "sound")
        wrong += [] if right else [f"{case.kind}, {case.name}: {got}"]
        if path.is_file():
            path.unlink()
    assert not wrong, "\n".join(wrong)
    assert len(FILE_CASES) > 90


def dumped(data: Any) -> bytes:
    return json.dumps(data).encode("utf-8", "surrogatepass")


def changed(draw: st.DrawFn, data: dict[str, Any], values: st.SearchStrategy[Any] = JSON) -> dict[str, Any]:
    """The object with some of its fields replaced, left out, or others beside them."""
    some = draw(st.dictionaries(st.sampled_from(sorted(data)) | st.text(max_size=8), values, min_size=1, max_size=3))
    gone = draw(st.sets(st.sampled_from(sorted(data)), max_size=1))
    return {name: value for name, value in (data | some).items() if name not in gone}


@st.composite
def settings_files(draw: st.DrawFn) -> bytes:
    asked = json.loads(SETTINGS.asked().to_json())
    return dumped({"settings": changed(draw, asked)} if draw(st.integers(0, 3)) else draw(JSON))


@st.composite
def latents_files(draw: st.DrawFn) -> bytes:
    good = {"settings": SETTINGS.to_json(), "provenance": json.dumps({"plan": PLAN}), "step": "3"}
    shape = SETTINGS.video_shape.latent_shape(1)
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 4 * math.prod(shape)]}
    own = json.dumps(changed(draw, json.loads(good["settings"])))
    texts = st.one_of(st.text(max_size=20), JSON.map(json.dumps), st.just(own))
    latents = changed(draw, entry) if draw(st.booleans()) else entry
    text = dumped({"__metadata__": changed(draw, good, texts), "latents": latents})
    return struct.pack("<Q", len(text)) + text + bytes(4 * math.prod(shape))


@st.composite
def headers(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A change of a safetensors file: of its header's fields, of its length, or of bytes anywhere."""
    kind = draw(st.sampled_from(("fields", "entry", "bytes", "length")))
    at, values = draw(st.integers(0, 2**20)), draw(st.binary(min_size=1, max_size=9))
    other, length = draw(JSON), draw(st.integers(0, 2**64 - 1))

    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        table = json.loads(data[8 : 8 + size])
        name = sorted(table)[at % len(table)]
        if kind == "bytes":
            place = at % (8 + size)
            return data[:place] + values + data[place + len(values) :]
        if kind == "length":
            return struct.pack("<Q", length) + data[8:]
        if kind == "entry":
            table[name] = other
        else:
            table[name][sorted(table[name])[at % len(table[name])]] = other
        text = dumped(table)
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return change


def fuzz(cases: st.SearchStrategy[Any], count: int, attempt: Try) -> None:
    """Try so many cases; the first that goes wrong is made smaller and shown."""

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(cases)
    def run(case: Any) -> None:
        assert attempt(case) == ""

    run()


def fuzz_everything(machine: Machine, folder: Path, tmp_path: Path, count: int) -> None:
    """count: of each kind of file; a quarter of the configs, each of which is a whole model that is looked at."""

    def ask(probe: str, *arguments: str) -> str:
        got = machine.ask(probe, *arguments)
        return "" if got.is_well else str(got)

    def small_file(probe: str) -> Try:
        def attempt(data: bytes) -> str:
            (tmp_path / "case").write_bytes(data)
            return ask(probe, str(tmp_path / "case"))

        return attempt

    weights = (folder / VIDEO_MODEL / DIT).read_bytes()

    def with_header(change: Callable[[bytes], bytes]) -> str:
        path = tmp_path / "a.safetensors"
        path.write_bytes(change(weights))
        return ask("header", str(path))

    originals = {name: (folder / VIDEO_MODEL / name).read_bytes() for name in CONFIGS.values()}

    @st.composite
    def configs(draw: st.DrawFn) -> tuple[str, bytes]:
        name = draw(st.sampled_from(sorted(originals)))
        return name, dumped(changed(draw, json.loads(originals[name])))

    def with_config(case: tuple[str, bytes]) -> str:
        path = folder / VIDEO_MODEL / case[0]
        path.write_bytes(case[1])
        try:
            return ask("model_folder", str(folder), str(tmp_path))
        finally:
            path.write_bytes(originals[case[0]])

    fuzz(settings_files(), count, small_file("settings"))
    fuzz(latents_files(), count, small_file("latents"))
    fuzz(headers(), count, with_header)
    fuzz(configs(), count // 4, with_config)


def test_fuzzed_files_are_refused_or_sound(machine: Machine, folder: Path, tmp_path: Path) -> None:
    assert SETTINGS.model == MODEL
    fuzz_everything(machine, folder, tmp_path, FEW)


@pytest.mark.slow
def test_many_fuzzed_files_are_refused_or_sound(machine: Machine, folder: Path, tmp_path: Path) -> None:
    fuzz_everything(machine, folder, tmp_path, MANY)
