"""configs/*.yaml: every shipped value is valid, and a file that does not fit is a sentence."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from models.layout import COMPONENTS, LAYOUT
from studio.config import (
    ROOT,
    ModelConfig,
    StudioConfig,
    load_camera_moves,
    load_models,
    load_presets,
    load_studio,
    part_folder,
)
from studio.errors import InputError
from studio.settings import GenerationSettings

MODELS, MOVES, PRESETS = load_models(), load_camera_moves(), load_presets()
FIELDS = {field.name for field in dataclasses.fields(GenerationSettings)}
OFFICIAL = {  # infer_steps, cfg_scale, time_shift, num_frames: they travel together
    "step-video-t2v": (50, 9.0, 13.0, 204),
    "step-video-t2v-turbo": (10, 5.0, 17.0, 204),
    "step-video-ti2v": (50, 9.0, 13.0, 102),
}


def requests(model: ModelConfig) -> list[GenerationSettings]:
    """One request per way the model can be asked."""
    found = [GenerationSettings(model.name, "x")] if model.takes_text_alone else []
    return found + ([GenerationSettings(model.name, "x", first_image="a.png")] if model.takes_image else [])


def test_the_five_models_are_there_in_menu_order() -> None:
    assert list(MODELS) == ["step-video-t2v", "step-video-t2v-turbo", "step-video-ti2v", "nano", "nano-turbo"]
    assert all({"en", "zh"} <= set(model.title) and {"en", "zh"} <= set(model.summary) for model in MODELS.values())


def test_every_models_defaults_are_valid_settings() -> None:
    for model in MODELS.values():
        check_defaults(model)


def check_defaults(model: ModelConfig) -> None:
    assert set(model.defaults) <= FIELDS and requests(model)
    for given in requests(model):
        resolved = given.resolve(model)
        assert resolved.problems(model, MOVES) == [], model.name
        for name in ("infer_steps", "num_frames", "height", "width"):
            assert type(getattr(resolved, name)) is int, f"{name} of {model.name} is no whole number"
    assert (model.defaults["height"], model.defaults["width"]) in model.sizes
    assert model.defaults["num_frames"] <= model.max_frames and model.max_frames % 17 == 0
    assert any(variant.motion_score for variant in model.variants) == ("motion_score" in model.defaults)


def test_every_size_offered_is_valid_and_every_shape_is_there() -> None:
    for model in MODELS.values():
        for height, width in model.sizes:
            for given in requests(model):
                chosen = dataclasses.replace(given.resolve(model), height=height, width=width)
                assert chosen.problems(model, MOVES) == [], f"{model.name}, {height}x{width}"
        shapes = {(height > width) - (height < width) for height, width in model.sizes}
        assert shapes == {-1, 0, 1}, f"{model.name}: landscape, square and portrait"


def test_official_defaults_travel_together() -> None:
    for name, official in OFFICIAL.items():
        model, defaults = MODELS[name], MODELS[name].defaults
        together = ("infer_steps", "cfg_scale", "time_shift", "num_frames")
        assert tuple(defaults[key] for key in together) == official, name
        assert (defaults["height"], defaults["width"]) == (544, 992), name
        assert defaults.get("motion_score") == (5.0 if name == "step-video-ti2v" else None), name
        assert model.magic_words and model.negative_prompt and set(model.sources) == {"hf", "modelscope"}, name


def test_every_preset_is_valid_for_its_model() -> None:
    for preset in PRESETS.values():
        model = MODELS[preset.model]
        assert set(preset.values) <= FIELDS - {"model", "prompt", "seed"}, preset.key
        assert {"en", "zh"} <= set(preset.title), preset.key
        for given in requests(model):
            chosen = dataclasses.replace(given, **preset.values).resolve(model)
            assert chosen.problems(model, MOVES) == [] and chosen.num_frames <= model.max_frames, preset.key


def test_every_model_has_a_preset() -> None:
    assert {preset.model for preset in PRESETS.values()} == set(MODELS)


def test_the_camera_moves_are_the_official_seventeen() -> None:
    assert len(MOVES) == 17 == len({move.phrase for move in MOVES.values()}) == len({m.gloss for m in MOVES.values()})
    assert all(move.key == key for key, move in MOVES.items())
    assert MOVES["zoom-in"].phrase == "镜头放大" and MOVES["fixed"].phrase == "固定镜头"


def test_the_studio_config_resolves_folders_and_takes_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_studio(port=1234, vram_gb=24.0, ram_gb=None, output_dir="here/../out")
    assert config.output_dir == tmp_path / "out" and config.model_dir == tmp_path / "checkpoints"
    assert (config.port, config.vram_gb, config.ram_gb, config.host) == (1234, 24.0, None, "127.0.0.1")
    with pytest.raises(InputError, match="unexpected keyword"):
        load_studio(nonsense=1)


def test_every_machine_setting_is_read_somewhere() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in [ROOT / "app.py", *(ROOT / "studio").rglob("*.py")])
    unread = [field.name for field in dataclasses.fields(StudioConfig) if f".{field.name}" not in text]
    assert not unread, f"nobody reads {unread}"


def test_nano_serves_both_requests() -> None:
    for has_image in (False, True):
        assert MODELS["nano"].variant(has_image).text_alone
        assert MODELS["step-video-ti2v"].variant(has_image).takes_image
        assert not MODELS["step-video-t2v"].variant(has_image).takes_image


def test_parts_come_from_the_first_folder_that_has_them(tmp_path: Path) -> None:
    variant = MODELS["step-video-t2v-turbo"].variant(False)
    assert set(variant.folders) == set(COMPONENTS)
    assert part_folder(variant, "clip", tmp_path) is None
    (tmp_path / "step-video-t2v" / LAYOUT["clip"].folder).mkdir(parents=True)
    assert part_folder(variant, "clip", tmp_path) == tmp_path / "step-video-t2v"
    (tmp_path / "step-video-t2v-turbo" / LAYOUT["clip"].folder).mkdir(parents=True)
    assert part_folder(variant, "clip", tmp_path) == tmp_path / "step-video-t2v-turbo"
    (tmp_path / "step-video-t2v" / "transformer").mkdir()
    assert part_folder(variant, "transformer", tmp_path) is None, "another model's transformer is not this one's"


MISFITS = [
    ("order: 2", "order: 2\nsurprise: 1", "surprise"),
    ("order: 2\n", "", "order"),
    ("variants:", "variations:", "variants"),
    ("      clip: [", "      klip: [", "no component klip"),
    ("sizes: [[544, 992], ", "sizes: [[544], ", "not enough values"),
    ("takes_image: false", "takes_picture: false", "takes_picture"),
    ("order: 2", "order: [2", "while parsing"),
    ("order: 2", "order: ${missing}", "missing"),
]


def test_a_model_file_that_does_not_fit_is_a_sentence(tmp_path: Path) -> None:
    text = (ROOT / "configs/models/step-video-t2v-turbo.yaml").read_text(encoding="utf-8")
    for old, new, reason in MISFITS:
        assert old in text
        (tmp_path / "mine.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(InputError, match=reason) as caught:
            load_models(tmp_path)
        assert "mine.yaml" in str(caught.value)


def test_a_new_model_needs_a_file_and_no_code(tmp_path: Path) -> None:
    shutil.copy(ROOT / "configs/models/nano.yaml", tmp_path / "mine.yaml")
    assert load_models(tmp_path)["mine"].defaults == MODELS["nano"].defaults


def test_a_studio_file_that_is_no_table_is_a_sentence(tmp_path: Path) -> None:
    paths = [tmp_path / "missing.yaml"]
    for number, content in enumerate((b"- a list", b"\xff\xfe\x00", b"text", b"model_dir: 7")):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_bytes(content)
    for path in paths:
        with pytest.raises(InputError, match="cannot be used"):
            load_studio(path)
