"""Step-Audio-TTS through the memory runtime: every plan gives the same samples; nothing is left over."""

from dataclasses import replace

import pytest
import torch

from models.checkpoint import load_flow, load_hift, load_step_audio_llm
from models.flow import FlowParams
from models.hift import HiFTParams
from models.int8_files import Int8Files
from models.speech import SpeechNetworks, speak
from models.speech_tokens import SpeechTokenizer, prompt_ids
from models.step_audio_llm import StepAudioLLMParams
from studio.errors import Cancelled, DoesNotFit
from studio.memory.allocator import Machine
from studio.memory.plan import Budgets, ComponentPlan, RuntimeConfig, WeightMode
from studio.memory.planning.speech import SpeechPlan, SpeechRequest, SpeechSizes, plan_speech, smaller_speech
from studio.memory.speech import Reading, Saying, SpeechMemory
from studio.units import GB
from tests.tiny_speech import tiny_voice, write_speech_folder

CPU = torch.device("cpu")
NEW = 15  # codes per text
PARTS = ("step_audio_llm", "flow", "hift")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_speech_folder(tmp_path_factory.mktemp("step-audio"))


@pytest.fixture(scope="module")
def readings(folder):
    encode = SpeechTokenizer(folder).encode
    texts = ("hello world", "(高兴1)rain falls", "你好世界")
    prompts = [tuple(prompt_ids(encode, text, tiny_voice().reference)) for text in texts]
    return [Reading(prompt, seed, len(prompt) + NEW) for seed, prompt in enumerate(prompts)]


def opened(folder, weights=WeightMode.NONE, machine=None, llm=None, device=CPU, **budgets):
    budgets = Budgets(**{"vram_bytes": 0 if device == CPU else 8 * GB, "ram_bytes": 8 * GB, **budgets})
    parts = {**dict.fromkeys(PARTS, folder), "step_audio_llm": llm or folder}
    dtype = torch.float32 if device == CPU else torch.bfloat16
    return SpeechMemory(parts, RuntimeConfig(device, dtype, budgets, weights=weights), machine=machine)


def waves(memory, readings):
    said = memory.codes(readings)
    mels = memory.mels([Saying(one.codes, tiny_voice(), r.seed) for one, r in zip(said, readings, strict=True)])
    return memory.waves([(mel, r.seed) for mel, r in zip(mels, readings, strict=True)])[0]


def placed(monkeypatch, memory, sources, slots, takes):
    """The memory with this plan in the planner's place."""
    sizes = memory._request(1, 10, 100).sizes.llm
    resident = tuple(unit for unit, source in enumerate(sources) if source == "resident")
    llm = ComponentPlan(resident, slots, sources, sizes.unit_bytes, sizes.rest_bytes, sizes.scratch_bytes)
    monkeypatch.setattr("studio.memory.speech.plan_speech", lambda request: SpeechPlan(llm, takes, 0, 0, True, {}))
    return memory


def test_every_plan_gives_the_samples_of_the_whole_networks(folder, readings, monkeypatch, subtests):
    whole = SpeechNetworks(load_step_audio_llm(folder, torch.float32), load_flow(folder), load_hift(folder))
    alone = [speak(whole, r.prompt, tiny_voice(), r.seed, max_length=r.max_length).wave for r in readings]
    plans = [
        (("resident", "resident"), 0, 1),
        (("direct", "direct"), 1, 3),
        (("pinned", "cached"), 2, 2),
        (("resident", "cached"), 1, 1),
    ]
    for sources, slots, takes in plans:
        with subtests.test(sources=sources, slots=slots, takes=takes):
            memory = placed(monkeypatch, opened(folder), sources, slots, takes)
            made = waves(memory, readings)
            assert all(torch.equal(one, other) for one, other in zip(made, alone, strict=True))
            memory.check_integrity()
            assert memory._allocator.allocated() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_every_plan_gives_the_same_samples_on_a_gpu(folder, readings, monkeypatch):
    device, made = torch.device("cuda"), []
    for sources, slots, takes in ((("resident", "resident"), 0, 1), (("pinned", "direct"), 1, 3)):
        memory = placed(monkeypatch, opened(folder, device=device), sources, slots, takes)
        made.append(waves(memory, readings))
        assert memory._allocator.allocated() == 0
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_int8_plans_agree_with_each_other_and_not_with_bfloat16(folder, readings, monkeypatch, tmp_path):
    Int8Files(folder, "step_audio_llm", tmp_path / "int8").write()
    made = []
    for sources, slots, takes in ((("resident", "resident"), 0, 1), (("cached", "direct"), 1, 3)):
        memory = opened(folder, WeightMode.INT8, llm=tmp_path / "int8")
        made.append(placed(monkeypatch, memory, sources, slots, takes).codes(readings))
    assert made[0] == made[1]
    assert memory._sizes[WeightMode.INT8].llm.unit_bytes < opened(folder)._sizes[WeightMode.NONE].llm.unit_bytes


class Refusing(Machine):
    """Refuses the first `times` allocations of device memory as large as a layer."""

    times, least = 1, 20_000

    def device_memory(self, nbytes):
        if self.times and nbytes >= self.least:
            self.times -= 1
            raise MemoryError("refused")
        return super().device_memory(nbytes)


def test_after_an_out_of_memory_error_a_smaller_plan_gives_the_same_codes(folder, readings):
    wanted = opened(folder).codes(readings)
    memory = opened(folder, machine=Refusing(CPU))
    told = []
    memory.notify = lambda code, **values: told.append((code, values))
    assert memory.codes(readings) == wanted
    assert told == [("speech_plan_smaller", {"resident": 0, "takes": 1})]
    memory = opened(folder, machine=Refusing(CPU))
    memory._allocator.machine.times = 99
    with pytest.raises(DoesNotFit):
        memory.codes(readings)
    assert memory._allocator.allocated() == 0


def test_a_stop_between_layers_leaves_nothing(folder, readings):
    memory, seen = opened(folder), []
    with pytest.raises(Cancelled):
        memory.codes(readings, report=seen.append, cancelled=lambda: len(seen) == 4)
    assert seen == [1, 2, 3, 4] and memory._allocator.allocated() == 0
    said = [Saying(tuple(tiny_voice().codes.tolist()), tiny_voice(), 1)]
    with pytest.raises(Cancelled):
        memory.mels(said, cancelled=lambda: True)
    assert memory._allocator.allocated() == 0


def public(weights=WeightMode.NONE):
    return SpeechSizes.of(StepAudioLLMParams(), FlowParams(), HiFTParams(), torch.bfloat16, weights)


def test_the_planner_at_the_public_sizes():
    sizes, int8 = public(), public(WeightMode.INT8)
    layers = sizes.llm.units * sizes.llm.unit_bytes
    assert 6.1e9 < layers < 6.2e9 and 3.0e9 < int8.llm.units * int8.llm.unit_bytes < 3.15e9

    def request(vram, ram=32, **changes):
        budgets = Budgets(int(vram * GB), int(ram * GB))
        return replace(SpeechRequest(sizes, budgets, texts=6, prompt=900, positions=2150, int8_sizes=int8), **changes)

    resident = plan_speech(request(16))
    assert resident.fits and not resident.llm.streamed and resident.takes == 1
    streamed = plan_speech(request(6))
    assert streamed.fits and set(streamed.llm.source) == {"resident", "pinned"} and streamed.takes > 1
    assert streamed.vram_peak_bytes <= 6 * GB
    disk = plan_speech(request(6, ram=4))
    assert disk.fits and "cached" in disk.llm.source and disk.ram_peak_bytes <= 4 * GB
    assert not plan_speech(request(6, sizes=int8)).llm.streamed
    tight = plan_speech(request(2.5, offload="none"))
    assert not tight.fits and "--vram" in tight.reason["en"] and tight.reason["zh"]
    step, smaller = 0, resident
    while (smaller := smaller_speech(request(16), resident)) is not None:
        held = [(len(p.llm.resident), p.llm.slots, p.takes) for p in (resident, smaller)]
        assert held[1] != held[0] and smaller.vram_peak_bytes <= resident.vram_peak_bytes
        resident, step = smaller, step + 1
    assert (resident.llm.resident, resident.llm.slots, resident.takes) == ((), 1, 1) and step < 20
