"""What the model receives."""

from studio.config import load_camera_moves, load_models
from studio.prompt import compose
from studio.settings import GenerationSettings

MODELS, MOVES = load_models(), load_camera_moves()


def text(model: str, prompt: str, **fields) -> str:
    settings = GenerationSettings(model=model, prompt=prompt, **fields).resolve(MODELS[model])
    return compose(settings, MODELS[model], MOVES).positive


def test_magic_words_follow_a_finished_sentence():
    for prompt, joint in (("一只猫", "。"), ("a cat", "."), ("一只猫。", ""), ("a cat!", "")):
        assert text("step-video-t2v", prompt) == prompt + joint + MODELS["step-video-t2v"].magic_words


def test_camera_phrase_is_the_models_own_for_every_language():
    assert text("step-video-ti2v", "a girl dances", camera_move="orbit", first_image="x").startswith(
        "镜头环绕，a girl dances."
    )


def test_a_model_without_magic_words_gets_the_prompt_alone():
    assert text("nano", " a red ball ") == "a red ball"


def test_the_negative_text_is_exactly_the_field():
    settings = GenerationSettings(model="step-video-t2v", prompt="x", negative_prompt="模糊")
    resolved = settings.resolve(MODELS["step-video-t2v"])
    assert compose(resolved, MODELS["step-video-t2v"], MOVES).negative == "模糊"
    default = GenerationSettings(model="step-video-t2v", prompt="x").resolve(MODELS["step-video-t2v"])
    assert default.negative_prompt == MODELS["step-video-t2v"].negative_prompt != ""
    empty = GenerationSettings(model="step-video-t2v", prompt="x", negative_prompt="").resolve(MODELS["step-video-t2v"])
    assert compose(empty, MODELS["step-video-t2v"], MOVES).negative == ""


def test_seventeen_moves_with_distinct_phrases():
    assert len(MOVES) == 17 == len({move.phrase for move in MOVES.values()})
