"""Help with the prompt, as html: the parts in both languages, the prompts of before, each once and as typed."""

from dataclasses import replace
from pathlib import Path

from studio.config import load_models
from studio.prompt_builder import PARTS
from studio.queue.jobs import JobQueue
from studio.settings import GenerationSettings
from studio.ui.words_panel import builder, history, prefix_offer

NANO = load_models()["nano"]


def test_each_part_has_its_field_in_both_languages() -> None:
    for language in ("en", "zh"):
        assert all(f'data-part="{part}"' in builder(language) for part in PARTS)
        assert 'data-id="prefix"' in prefix_offer(language)
    assert "Subject" in builder("en") and "主体" in builder("zh")


def test_earlier_prompts_come_once_as_typed_and_harmless(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path)
    assert "暂无" in history(queue, "zh")
    settings = GenerationSettings("nano", "<b>a circle</b>").resolve(NANO)
    queue.submit(settings)
    drawn = [
        replace(settings, prompt=f"a {word} square", prompt_template="a {red|blue} square") for word in ("red", "blue")
    ]
    for one in drawn:
        newest = queue.submit(one)
    shown = history(queue, "en")
    assert shown.count("<li>") == 2 and shown.count("a {red|blue} square") == 1 and newest.id in shown
    assert "&lt;b&gt;a circle" in shown and "<b>" not in shown
    assert shown.index("square") < shown.index("circle"), "the newest first"
