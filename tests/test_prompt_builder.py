"""A prompt from its parts, in both languages, and the beginning for a long one."""

from studio.prompt_builder import LONG_WORDS, build, is_long, with_prefix


def test_parts_follow_the_formula_in_the_punctuation_of_their_language() -> None:
    girl = {
        "subject": "a girl",
        "action": "turns.",
        "surroundings": " snow  falls",
        "style": "realistic",
        "type": "film",
    }
    assert build(girl) == "A girl turns, snow falls. Film, realistic."
    assert build(girl | {"camera": "the camera moves closer"}) == (
        "A girl turns, snow falls. The camera moves closer. Film, realistic."
    )
    assert (
        build({"subject": "女孩", "action": "转身，", "camera": "镜头推进", "style": "写实"})
        == "女孩转身，镜头推进，写实。"
    )
    assert build({"subject": "", "style": "realistic"}) == "Realistic." and build({}) == ""


def test_a_long_prompt_is_offered_its_beginning_once() -> None:
    for prompt, begun in (
        ("A cat " * (LONG_WORDS // 2), None),
        ("A cat " * LONG_WORDS, "In the video, a cat A cat"),
        ("猫" * (LONG_WORDS + 1), "视频中，猫猫"),
    ):
        assert is_long(prompt) == (begun is not None)
        if begun:
            assert with_prefix(prompt).startswith(begun) and not is_long(with_prefix(prompt))
    assert with_prefix("Another cat") == "In the video, Another cat"
