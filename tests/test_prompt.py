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


def test_a_move_may_be_slow_or_fast_in_the_official_words():
    for move, speed, words in (
        ("push-in", "slow", "镜头缓慢推进，"),
        ("focus", "fast", "焦点快速转移，"),
        ("fixed", "slow", "固定镜头，"),
        ("orbit", "plain", "镜头环绕，"),
    ):
        found = text("step-video-ti2v", "a girl", camera_move=move, camera_speed=speed, first_image="x")
        assert found.startswith(words), found
    assert text("nano", "a girl", camera_speed="slow") == "a girl", "nothing moves"
    assert text("nano", "a girl", camera_move="left", camera_speed="slow") == "镜头左移，a girl", "it knows no speeds"


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


def test_magic_words_have_a_language_and_a_kind():
    """A drawing is asked for by no word for photographs, and no word forbids it; an edited negative prompt stays."""
    model = MODELS["step-video-ti2v"]
    for kind, joint in (("official", "。画面中"), ("english", ". The subject"), ("anime", "。"), ("none", "")):
        found = text(model.name, "一只猫" if "english" not in kind else "a cat", magic_words=kind, first_image="x")
        assert ("一只猫" + joint in found) or ("a cat" + joint in found), found
    anime = GenerationSettings(model.name, "a cat", magic_words="anime-english", first_image="x").resolve(model)
    drawn = compose(anime, model, MOVES)
    assert (
        "realistic" not in drawn.positive and "hyper-real" not in drawn.positive and drawn.positive.endswith("clear.")
    )
    assert "动画" not in drawn.negative and "插图" not in drawn.negative and drawn.negative.startswith("模糊、")
    assert drawn.positive[-drawn.added :].startswith(" The subject moves")
    own = GenerationSettings(model.name, "a cat", negative_prompt="动画", magic_words="anime", first_image="x")
    assert own.resolve(model).negative_prompt == "动画"
    assert text(model.name, "a cat", magic_words="none", first_image="x") == "a cat"


def test_seventeen_moves_with_distinct_phrases():
    assert len(MOVES) == 17 == len({move.phrase for move in MOVES.values()})
