"""Plain words become the speech model's tags."""

from studio.audio.styles import MOST_STYLES, is_style, tags


def test_words_become_tags_with_singing_first() -> None:
    cases = {
        ("", "auto"): (),
        ("happy", "en"): ("高兴1", "英文"),
        ("Slow, cantonese", "yue"): ("慢速1", "粤语"),
        ("高兴2，rap", "zh"): ("RAP", "高兴2", "中文"),
        ("sad sad 天津话", "auto"): ("悲伤1", "天津话"),
    }
    assert {given: tags(*given) for given in cases} == cases
    wrong = ["(高兴1)", "a" * 13, "<|EOT|>", " ".join(["happy"] * (MOST_STYLES + 1))]
    assert [style for style in wrong if is_style(style)] == [] and is_style("高兴1 very-slow")
