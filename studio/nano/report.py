"""Everything the judge says of a nano, as plain data and as the tables of its card and of docs/performance.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from studio.nano.clips import NanoFolder
from studio.nano.evaluate import Tally, difference, judge_model, judge_truth, judge_vae
from studio.nano.gates import judge_gates
from studio.nano.world import WorldSettings

ATTRIBUTES = ("colour", "direction", "motion", "shape", "camera")
Marks = Mapping[str, Any]


def report(
    folder: NanoFolder, world: WorldSettings, count: int, overrides: Mapping[str, Any], gates: int | None = None
) -> dict[str, Any]:
    """Marks of the world's truth, the VAE, text alone, with a first image, and the gates; `count` captions a language.

    overrides: GenerationSettings fields, instead of the model's defaults. gates: captions a language for the gates, the
    first of those; None: as many. Under "computed" stands what really ran.
    """
    gates = count if gates is None else min(gates, count)
    with folder.open("nano", overrides=overrides) as maker:
        through_vae, quality = judge_vae(maker, world, count)
        text = judge_model(maker, world, count, with_image=False)
        truth = judge_truth(world, count, maker.settings.video_shape)
        computed = maker.computed
    with folder.open("nano", with_image=True, overrides=overrides) as maker:
        image = judge_model(maker, world, count, with_image=True)
        with_image = maker.computed
    return {
        "n": count,
        "computed": {"text": computed, "image": with_image},
        "truth": truth.summary(),
        "vae": {**through_vae.summary(), "psnr": round(sum(quality) / len(quality), 2)},
        "text": {language: tally.summary() for language, tally in text.items()},
        "image": {language: tally.summary() for language, tally in image.items()},
        "chinese_above_english": _languages(text, image),
        "gates_n": gates,
        "gates_full": {language: tally.first(gates).summary() for language, tally in text.items()},
        "gates": judge_gates(
            folder, world, gates, overrides, {name: tally.first(gates) for name, tally in text.items()}
        ),
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
    """The table of docs/performance.md: a row per way, against the full run; each is named by what was computed."""
    gates, full = told["gates"], told["computed"]["text"]
    rows = [[f"{full['dtype']}, {full['infer_steps']} steps", *_both(told["gates_full"]), "-"]]
    for way, gate in gates.items():
        how, against = gate["computed"], gate["against_full"]
        words = {
            "int8": f"int8 weights, {how['dtype']}, {how['infer_steps']} steps",
            "few": f"{how['dtype']}, {how['infer_steps']} steps, not distilled",
            "turbo": f"Turbo, {how['dtype']}, {how['infer_steps']} steps",
        }
        low, high = against["interval"]
        rows.append([words[way], *_both(gate), f"{against['points']:+} ({low:+} to {high:+})"])
    return _table(["text alone", *ATTRIBUTES, "points against the full run"], rows)


def conditions_line(told: Marks) -> str:
    """One sentence that says what the marks were computed with."""
    how = told["computed"]["text"]
    return (
        f"{told['n']} held-out captions per language through studio.pipeline.frames, the studio's own recipe: "
        f"{how['num_frames']} frames of {how['height']}x{how['width']}, {how['infer_steps']} steps, speed "
        f"{how['speed']}, cfg {how['cfg_scale']:g}, shift {how['time_shift']:g}; computed in {how['dtype']} on "
        f"{how['device']} with PyTorch {how['torch']}; the seed of a clip is the number of its scene."
    )


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
