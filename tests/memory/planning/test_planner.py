"""The planner: promises kept over random requests, the numbers of research/memory.md 7, plans that step down."""

import json
import re
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.clip_config import ClipParams
from models.geometry import VideoShape
from models.step_llm import StepLLMParams
from models.transformer import TransformerParams
from models.vae import VAEParams
from studio.memory.plan import OFFLOADS, Budgets, Sharing, WeightMode
from studio.memory.planning.footprint import (
    Architecture,
    ModelSizes,
)
from studio.memory.planning.peaks import PlanRequest, peaks
from studio.memory.planning.planner import (
    LAUNCHED_SECONDS,
    calibrate,
    evenly,
    phase_bytes,
    phase_seconds,
    plan_run,
    step_down,
    step_seconds,
)
from studio.memory.planning.speeds import ASSUMED, Speeds
from studio.memory.streaming.arena import stride
from studio.memory.usage import CAP_SLACK_BYTES, CUDA_CONTEXT_BYTES
from studio.units import GB

FULL = {frames: VideoShape(frames, 544, 992) for frames in (17, 51, 102, 204)}
NONE, INT8, INT8_COMPUTE = WeightMode
SMALL = Architecture(
    transformer=TransformerParams(heads=2, head_dim=64, layers=7, in_channels=8, out_channels=8, llm_width=128),
    step_llm=StepLLMParams(width=128, layers=3, heads=4, groups=2, ffn_width=256, vocabulary=64),
    vae=VAEParams(z_channels=8, encoder_widths=(32,) * 4, decoder_widths=(32,) * 4),
    clip=ClipParams(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64),
)


@cache
def public(weights: WeightMode = NONE, takes_image: bool = False) -> ModelSizes:
    params = TransformerParams(takes_image=takes_image, takes_motion_score=takes_image)
    return ModelSizes.of(Architecture(transformer=params), torch.bfloat16, weights)


@cache
def small(weights: WeightMode = NONE) -> ModelSizes:
    return ModelSizes.of(SMALL, torch.float32, weights)


def request(frames: int = 204, vram: float = 24, ram: float = 64, weights: WeightMode = NONE, **changes) -> PlanRequest:
    budgets = Budgets(int(vram * GB), int(ram * GB))
    made = PlanRequest(public(weights), FULL[frames], budgets, ASSUMED["cuda"])
    return replace(made, **changes)


# ---- sizes


def test_sizes_are_those_of_the_public_checkpoints():
    """Parameters as counted from the public key maps (research/model_facts.md 1.1), two bytes each."""
    sizes = public(takes_image=True)
    everything = sizes.transformer.units * sizes.transformer.unit_bytes + sizes.transformer.rest_bytes
    assert everything == pytest.approx(2 * 29_382_205_504, rel=1e-5)  # 512-byte alignment is the difference
    assert sizes.step_llm.units * sizes.step_llm.unit_bytes + sizes.step_llm.rest_bytes == 39_159_201_792
    assert sizes.clip_bytes == 4 * 350_986_240
    assert sizes.vae_bytes == pytest.approx(2 * 498_818_819, rel=1e-4)


def test_int8_takes_052_and_computing_in_it_no_scratch_but_room_for_its_sums():
    for name in ("transformer", "step_llm"):
        full, int8 = (getattr(public(weights), name) for weights in (NONE, INT8))
        assert int8.unit_bytes / full.unit_bytes <= 0.52
        assert full.scratch_bytes == 0 < int8.scratch_bytes < full.unit_bytes
    int8, compute = public(INT8), public(INT8_COMPUTE)
    assert compute.transformer.scratch_bytes == 0 < int8.transformer.scratch_bytes
    assert compute.step_llm == int8.step_llm and compute.transformer.unit_bytes == int8.transformer.unit_bytes
    assert compute.denoise_bytes(FULL[17], 2) > int8.denoise_bytes(FULL[17], 2)


def test_configs_of_installed_components_win_over_public_sizes():
    llm = StepLLMParams(width=64, layers=2, heads=2, groups=1, ffn_width=96, vocabulary=10)
    found = Architecture.of_parts({"step_llm": llm}, takes_image=True)
    assert found.step_llm.width == 64 and found.transformer == TransformerParams(
        takes_image=True, takes_motion_score=True
    )


# ---- anchors (research/memory.md 7.5, issue 3): bytes of PyTorch's allocator, the context apart


def test_full_size_needs_at_most():
    """204 frames; decoding; and of RAM, with everything on disk."""
    for weights, offload, most in ((NONE, "none", 67), (NONE, "blocks", 11), (INT8, "blocks", 8.5)):
        plan = plan_run(request(204, 80, 128, weights, offload=offload))
        assert plan.fits and plan.vram_peak_bytes - CUDA_CONTEXT_BYTES <= most * GB, (weights, offload)
    assert public().decode_bytes(FULL[204], compact=True) <= 4.8 * GB
    assert public().decode_bytes(FULL[204], compact=False) <= 6.5 * GB
    assert plan_run(request(204, 80, 128, offload="disk")).ram_peak_bytes <= 10 * GB


def test_streaming_is_hidden_behind_computation_from_51_frames_on():
    for frames, most in ((51, 1.03), (102, 1.01), (204, 1.01)):
        resident, streamed = (
            plan_run(request(frames, 80, 128, offload=offload)).seconds_per_step for offload in ("none", "blocks")
        )
        assert resident * 0.9999 <= streamed <= most * resident
    resident, streamed = (plan_run(request(17, 80, 128, offload=mode)).seconds_per_step for mode in ("none", "disk"))
    assert streamed > 1.5 * resident  # a preview computes less than the disk takes to read


def test_a_step_takes_its_arithmetic():
    """102 frames at 544x992 are 3.85e15 linear and 3.40e15 attention FLOP a step (research/speed.md 7.1).

    Products in int8 take their own measured speed.
    """
    speeds = Speeds(tflops=100, attention_tflops=50, memory_gbps=1e9, link_gbps=1e9, disk_gbps=1e9)
    for weights, int8_tflops, linear in (
        (NONE, None, 38.5), (INT8_COMPUTE, None, 38.5), (INT8_COMPUTE, 200, 38.5 / 2),
    ):  # fmt: skip
        plan = plan_run(request(102, 80, 128, weights, speeds=replace(speeds, int8_tflops=int8_tflops)))
        assert plan.seconds_per_step == pytest.approx(linear + 68.0 + 0.8, rel=0.01), (weights, int8_tflops)
        assert weights is NONE or plan.assumptions["int8_tflops"] == int8_tflops


def test_a_step_from_a_slow_disk_takes_the_reading():
    speeds = replace(ASSUMED["cuda"], disk_gbps=0.1)
    plan = plan_run(request(51, 12, 8, speeds=speeds, offload="disk"))
    assert plan.seconds_per_step == pytest.approx(48 * plan.transformer.unit_bytes / 0.1e9, rel=0.01)


# ---- keys and values of the texts


def test_texts_are_kept_where_not_everything_is_resident():
    sizes, whole = public(), plan_run(request(204, 80, 64))
    assert whole.transformer.texts is None and not whole.transformer.streamed
    assert sizes.kept_text_bytes(2) == 48 * 2 * 2 * 397 * 6144 * 2  # 0.94 * 10^9
    assert 1 - sizes.transformer_without_text.unit_bytes / sizes.transformer.unit_bytes == pytest.approx(
        0.125, abs=1e-4
    )
    for frames, vram in ((17, 12), (51, 24), (204, 24), (204, 60)):
        made = request(frames, vram, 64)
        plan = plan_run(made)
        assert plan.transformer.texts is not None, (frames, vram)
        assert plan.transformer.unit_bytes == sizes.transformer_without_text.unit_bytes
        assert plan.summary()["texts_kept_gb"] == pytest.approx(0.87, abs=0.01)
    assert whole.summary()["texts_kept_gb"] == 0.0
    assert not plan.transformer.streamed, "without those layers everything is resident in 60 GB"
    assert whole.vram_peak_bytes - plan.vram_peak_bytes == pytest.approx(7.2e9 - 0.94e9, rel=0.01)


def test_small_models_keep_no_texts():
    """Their keys and values take more than the layers that compute them."""
    made = PlanRequest(
        small(), VideoShape(17, 64, 64), Budgets(CUDA_CONTEXT_BYTES + (1 << 29), GB * 8), ASSUMED["cuda"]
    )
    assert not small().keeping_texts_saves and plan_run(made).transformer.texts is None


def test_a_step_down_keeps_texts_before_blocks_leave_and_drops_them_last():
    made, plans = request(204, 80, 64), []
    plan = plan_run(made)
    while plan is not None:
        plans.append((plan.transformer.texts is not None, len(plan.transformer.resident), plan.transformer.slots))
        plan = step_down(made, plan)
    assert plans[:2] == [(False, 48, 0), (True, 48, 0)] and plans[-2:] == [(True, 0, 1), (False, 0, 1)]


# ---- promises over random requests

videos = st.builds(
    VideoShape, st.integers(1, 14).map(lambda n: 17 * n), *[st.integers(8, 62).map(lambda n: 16 * n)] * 2
)
speeds_drawn = st.builds(
    Speeds,
    tflops=st.floats(1, 800),
    attention_tflops=st.floats(1, 800),
    memory_gbps=st.floats(10, 4000),
    link_gbps=st.floats(1, 60),
    disk_gbps=st.floats(0.1, 14),
)


@st.composite
def requests(draw, offloads=OFFLOADS):
    is_public = draw(st.booleans())
    weights = draw(st.sampled_from((NONE, INT8)))
    scale = GB if is_public else 24 << 20
    budgets = Budgets(int(draw(st.floats(2, 80)) * scale), int(draw(st.floats(2, 130)) * GB))
    device = draw(st.sampled_from(("cuda", "cpu")))
    return PlanRequest(
        sizes=(public if is_public else small)(weights),
        video=draw(videos),
        budgets=replace(budgets, vram_bytes=budgets.vram_bytes + CUDA_CONTEXT_BYTES),
        speeds=draw(speeds_drawn),
        device=device,
        offload=draw(st.sampled_from(offloads)),
        conditions=draw(st.integers(1, 2)),
        int8_sizes=None if weights is INT8 or not is_public else public(INT8),
    )


@settings(max_examples=60, deadline=None)
@given(requests())
def test_a_plan_that_fits_keeps_both_budgets_and_one_that_does_not_says_so(made):
    plan = plan_run(made)
    if plan.fits:
        assert plan.vram_peak_bytes <= made.budgets.vram_bytes and plan.ram_peak_bytes <= made.budgets.ram_bytes
        assert plan.reason == {}
    else:
        assert "It needs at least" in plan.reason["en"] and "It would fit with" in plan.reason["en"]
    assert plan == plan_run(made)  # deterministic
    assert json.loads(json.dumps(plan.summary()))["fits"] == plan.fits
    assert plan.seconds_per_step > 0
    worst = max(phase_bytes(made, plan).values())
    peak = plan.ram_peak_bytes if made.on_cpu else plan.vram_peak_bytes
    assert worst <= peak


@settings(max_examples=40, deadline=None)
@given(requests(), st.integers(0, 20), st.integers(0, 40))
def test_more_memory_never_makes_a_plan_slower_or_less_resident(made, more_vram, more_ram):
    plan = plan_run(made)
    budgets = Budgets(made.budgets.vram_bytes + more_vram * GB, made.budgets.ram_bytes + more_ram * GB)
    larger = plan_run(replace(made, budgets=budgets))
    if plan.fits:
        assert larger.fits
        assert larger.seconds_per_step <= plan.seconds_per_step * (1 + 1e-6)
        if not more_ram:
            assert len(larger.transformer.resident) >= len(plan.transformer.resident)


@settings(max_examples=40, deadline=None)
@given(requests())
def test_residents_and_reads_from_disk_are_evenly_spread(made):
    plan = plan_run(made).transformer
    for chosen, among in (
        (plan.resident, range(plan.units)),
        ([unit for unit in plan.streamed if plan.source[unit] != "pinned"], plan.streamed),
    ):
        places = [list(among).index(unit) for unit in chosen]
        gaps = [b - a for a, b in zip(places, [*places[1:], len(among) + places[0]] if places else [], strict=True)]
        assert not gaps or max(gaps) - min(gaps) <= 1


@settings(max_examples=30, deadline=None)
@given(requests(), st.sampled_from(("encode_text", "denoise", "decode")))
def test_stepping_down_always_needs_less_and_ends(made, phase):
    plan = plan_run(made)
    steps = 0
    while (smaller := step_down(made, plan, phase)) is not None:
        assert phase_bytes(made, smaller)[phase] < phase_bytes(made, plan)[phase]
        assert smaller.video == plan.video and smaller.seconds_per_step > 0
        plan, steps = smaller, steps + 1
        assert steps < 40
    if phase == "denoise":
        assert plan.transformer.slots + len(plan.transformer.resident) == 1
    elif phase == "decode":
        assert plan.compact_decode or made.on_cpu


@settings(max_examples=40, deadline=None)
@given(requests(), st.floats(1.3, 20))
def test_a_timed_run_corrects_the_prediction(made, factor):
    plan = plan_run(made)
    measured = plan.seconds_per_step * factor
    speeds = calibrate(made, plan, measured)
    if not made.on_cpu and measured < LAUNCHED_SECONDS:
        assert speeds == made.speeds  # launches of kernels tell nothing of a larger model
        return
    assert step_seconds(replace(made, speeds=speeds), plan) == pytest.approx(measured, rel=1e-3)
    again = calibrate(replace(made, speeds=speeds), plan, measured)
    assert step_seconds(replace(made, speeds=again), plan) == pytest.approx(measured, rel=1e-3)
    assert again.origin == speeds.origin  # said once


def test_what_took_longest_is_what_is_corrected():
    for offload, field in (("none", "correction"), ("disk", "disk_gbps")):
        made = request(17, 80, 128, offload=offload)
        speeds = calibrate(made, plan_run(made), 2 * plan_run(made).seconds_per_step)
        changed = [name for name in ("correction", "link_gbps", "disk_gbps")
                   if getattr(speeds, name) != getattr(made.speeds, name)]  # fmt: skip
        assert changed == [field]


# ---- modes


def test_none_keeps_all_resident_or_refuses_with_the_remedy():
    plan = plan_run(request(204, 80, 64, offload="none"))
    assert plan.fits and plan.transformer.slots == plan.step_llm.slots == 0
    refused = plan_run(request(204, 48, 64, offload="none", int8_sizes=public(INT8)))
    assert not refused.fits and not refused.transformer.streamed
    assert "--offload auto" in refused.reason["en"] and "int8" in refused.reason["en"]


def test_blocks_streams_everything_from_ram_and_disk_from_disk_and_other_words_are_refused():
    blocks, disk = (plan_run(request(51, 80, 128, offload=offload)) for offload in ("blocks", "disk"))
    assert set(blocks.transformer.source) == {"pinned"} and set(disk.transformer.source) == {"direct"}
    assert blocks.ram_peak_bytes - disk.ram_peak_bytes > 50 * GB
    with pytest.raises(ValueError, match="offload"):
        plan_run(request(offload="some"))


def test_ram_that_does_not_reach_for_all_blocks_is_used_for_some():
    plan = plan_run(request(102, 12, 32))
    pinned = plan.transformer.source.count("pinned")
    assert plan.fits and 0 < pinned < len(plan.transformer.streamed)
    assert plan.ram_peak_bytes + plan.transformer.unit_bytes > 32 * GB


def test_on_a_cpu_ram_is_the_only_budget_and_nothing_lies_there_twice():
    made = request(17, 0, 90, device="cpu", sizes=ModelSizes.of(Architecture(), torch.float32))
    plan = plan_run(made)
    assert plan.fits and plan.vram_peak_bytes == 0 and 80 * GB < plan.ram_peak_bytes <= 90 * GB
    assert set(plan.transformer.source) == {"resident", "direct"}


def test_what_would_fit_does_fit_and_a_little_less_does_not():
    made = request(204, 7.5, 64, int8_sizes=public(INT8))
    reason = plan_run(made).reason["en"]
    frames = int(reason.split(" frames")[0].rsplit(maxsplit=1)[-1])
    height, width = map(int, reason.split(" pixels")[0].rsplit(maxsplit=1)[-1].split("x"))
    vram = float(reason.split("--vram ")[1].rstrip("."))
    assert plan_run(replace(made, video=VideoShape(frames, 544, 992))).fits
    assert not plan_run(replace(made, video=VideoShape(frames + 17, 544, 992))).fits
    assert plan_run(replace(made, video=VideoShape(204, height, width))).fits
    assert plan_run(request(204, vram, 64)).fits and not plan_run(request(204, vram - 0.2, 64)).fits


def test_plans_leave_a_little_of_the_vram_free():
    plan = plan_run(request(204, 12, 64))
    assert plan.vram_peak_bytes + CAP_SLACK_BYTES <= 12 * GB
    exactly = Budgets(plan.vram_peak_bytes, 64 * GB)
    assert plan_run(request(204, budgets=exactly)).vram_peak_bytes < plan.vram_peak_bytes


def test_both_languages_say_what_is_short_with_the_same_numbers_and_flags():
    reasons = [plan_run(made).reason for made in (
        request(204, 7.3, 64, int8_sizes=public(INT8)), request(204, 48, 1, offload="none"),
    )]  # fmt: skip
    for reason in reasons:
        english, chinese = (re.findall(r"[\d.]*\d|--[a-z0-9]+", reason[language]) for language in ("en", "zh"))
        assert english == chinese and len(english) > 5
        assert re.search("[\u4e00-\u9fff]", reason["zh"]) and not re.search("[\u4e00-\u9fff]", reason["en"])
    assert "of RAM (1.0 GB may be used)" in plan_run(request(51, 24, 1)).reason["en"]
    assert "显存" in reasons[0]["zh"] and "；--vram" in reasons[0]["zh"] and "内存" in reasons[1]["zh"]


def test_phases_take_longer_cold():
    made = request(17, 24, 64)
    seconds = phase_seconds(made, plan_run(made))
    read = 39.2 + 1.4 + 7.2  # Step-LLM, CLIP, the layers that project texts
    assert seconds["first_step"] > seconds["step"] and seconds["encode_text"] == pytest.approx(read / 3, rel=0.1)


def test_decoding_is_compact_where_there_is_no_room():
    plans = [plan_run(request(17, vram, 64)) for vram in (8, 24)]
    assert [(plan.fits, plan.compact_decode) for plan in plans] == [(True, True), (True, False)]


def test_evenly_begins_with_the_first_and_repeats_none():
    for count, total in ((1, 1), (3, 7), (7, 7), (5, 48), (47, 48)):
        chosen = evenly(count, total)
        assert len(set(chosen)) == count and chosen[0] == 0 and max(chosen) < total, (count, total)


# ---- several devices


def test_of_one_copy_each_of_several_devices_counts_its_part():
    """What is pinned once for all, as far as the RAM of all goes, against a copy of each."""
    for devices, ram in ((2, 24), (4, 12), (4, 30), (8, 24), (3, 6)):
        plans = {}
        for one_copy in (True, False):
            sharing = Sharing(devices, one_copy=one_copy)
            plans[one_copy] = plan_run(
                request(102, 16, ram, sharing=sharing, conditions=sharing.conditions(guided=True))
            )
            assert plans[one_copy].fits and plans[one_copy].ram_peak_bytes <= ram * GB
        once, each = (plan.transformer for plan in plans.values())
        pinned, copies = (plan.source.count("pinned") for plan in (once, each))
        assert pinned >= min(devices * copies, len(once.streamed)) and pinned > copies, (devices, ram)
        from_disk = tuple("direct" if kind == "pinned" else kind for kind in once.source)
        alone = peaks(request(102, 16, ram), replace(once, source=from_disk), plans[True].step_llm, True)[1]
        whole, all_of_them = pinned * stride(once.unit_bytes), devices * plans[True].ram_peak_bytes
        if pinned < len(once.streamed):
            assert whole <= all_of_them - devices * alone < whole + devices, "beside one copy, what each has of its own"
            assert all_of_them + stride(once.unit_bytes) > devices * ram * GB, "one more would be too much"
