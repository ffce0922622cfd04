"""Everything the judge says of a nano, as plain data and as the tables of its card and of docs/performance.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from studio.nano.evaluate import Tally, difference, judge_model, judge_truth, judge_vae
from studio.nano.gates import judge_gates
from studio.nano.model import Denoiser, SampleSettings
from studio.nano.world import WorldSettings

ATTRIBUTES = ("colour", "direction", "motion", "shape", "camera")
Marks = Mapping[str, Any]


def report(
    alone: Denoiser, both: Denoiser, turbo: Denoiser | None, vae: nn.Module, world: WorldSettings, count: int,
    settings: SampleSettings,
) -> dict[str, Any]:  # fmt: skip
    """Marks of the world's truth, the VAE, text alone, with a first image, and the gates; `count` captions a language.

    alone: the T2V network; both: TI2V; turbo: None where there is none.
    """
    through_vae, quality = judge_vae(vae, world, count, settings)
    text = judge_model(alone, vae, world, count, settings, with_image=False)
    image = judge_model(both, vae, world, count, settings, with_image=True)
    return {
        "n": count,
        "settings": vars(settings),
        "truth": judge_truth(world, count, settings).summary(),
        "vae": {**through_vae.summary(), "psnr": round(sum(quality) / len(quality), 2)},
        "text": {language: tally.summary() for language, tally in text.items()},
        "image": {language: tally.summary() for language, tally in image.items()},
        "chinese_above_english": _languages(text, image),
        "gates": judge_gates(alone, turbo, vae, world, count, settings, text),
    }


def _languages(*ways: Mapping[str, Tally]) -> dict[str, Any]:
    return difference([way["zh"] for way in ways], [way["en"] for way in ways])


def marks_table(told: Marks) -> str:
    """The card's table: a row per attribute, a column per way."""
    columns = {
        "truth": told["truth"],
        "VAE": told["vae"],
        "text, Chinese": told["text"]["zh"],
        "text, English": told["text"]["en"],
        "with image, Chinese": told["image"]["zh"],
        "with image, English": told["image"]["en"],
    }
    rows = [[name, *(_share(marks, name) for marks in columns.values())] for name in ATTRIBUTES]
    measures = {"motion score, Spearman": "motion_spearman", "first frame PSNR, dB": "first_frame_psnr"}
    for words, key in measures.items():
        rows.append([words, *(str(marks.get(key, "-")) for marks in columns.values())])
    rows.append(["whole clip PSNR, dB", "-", str(told["vae"]["psnr"]), "-", "-", "-", "-"])
    return _table(["", *columns], rows)


def gates_table(told: Marks) -> str:
    """The table of docs/performance.md: a row per way, against the full run."""
    gates, full = told["gates"], told["settings"]["infer_steps"]
    few = gates["few"]["settings"]["infer_steps"]
    words = {"int8": f"int8, {full} steps", "few": f"{few} steps, not distilled", "turbo": f"Turbo, {few} steps"}
    rows = [[f"bf16, {full} steps", *_both(told["text"]), "-"]]
    for way in (way for way in words if way in gates):
        against = gates[way]["against_full"]
        low, high = against["interval"]
        rows.append([words[way], *_both(gates[way]), f"{against['points']:+} ({low:+} to {high:+})"])
    return _table(["text alone", *ATTRIBUTES, "points against the full run"], rows)


def _both(marks: Marks) -> list[str]:
    """Both languages in a cell."""
    cells = []
    for name in ATTRIBUTES:
        zh, en = (marks[language].get(name) for language in ("zh", "en"))
        cells.append(f"{100 * zh['share']:.0f} / {100 * en['share']:.0f} %" if zh and en else "-")
    return cells


def _share(marks: Marks, name: str) -> str:
    if name not in marks:
        return "-"
    low, high = (100 * value for value in marks[name]["interval"])
    return f"{100 * marks[name]['share']:.0f} % ({low:.0f}-{high:.0f}, n={marks[name]['n']})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
