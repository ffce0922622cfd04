"""A folder of the public layout from text to wave, and what is wrong with a folder is told."""

import json
import shutil
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.checkpoint import (
    CheckpointError,
    ComponentFiles,
    build,
    fingerprint,
    load_flow,
    load_hift,
    load_step_audio_llm,
)
from models.flow import Flow, FlowParams
from models.hift import HiFT, HiFTParams
from models.int8_files import Int8Files
from models.speech import SpeechNetworks, draw_codes, draw_mel, draw_wave, speak
from models.speech_sampling import SamplingSettings
from models.speech_tokens import SpeechTokenizer, fits_pattern, prompt_ids
from models.step_audio_llm import StepAudioLLM
from tests.tiny_speech import tiny_voice, write_speech_folder

VOCODER = "CosyVoice-300M-25Hz"
PARTS = ("step_audio_llm", "flow", "hift", "flow_music", "hift_music")
GROUPS = 6  # that the tests speak


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return write_speech_folder(tmp_path_factory.mktemp("step-audio"))


@pytest.fixture(scope="module")
def networks(stored):
    return SpeechNetworks(load_step_audio_llm(stored, torch.float32), load_flow(stored), load_hift(stored))


@pytest.fixture(scope="module")
def prompt(stored):
    return prompt_ids(SpeechTokenizer(stored).encode, "(高兴1)hello world", tiny_voice().reference)


@pytest.fixture
def folder(stored, tmp_path):
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def _speak(networks, prompt, seed, **settings):
    length = len(prompt) + 5 * GROUPS
    return speak(networks, prompt, tiny_voice(), seed, SamplingSettings(**settings), max_length=length)


def test_text_becomes_sound_and_seeds_decide(networks, prompt):
    first, again, other = (_speak(networks, prompt, seed) for seed in (1, 1, 2))
    assert first.sample_rate == 22050 and first.wave.shape == (networks.flow.frames(5 * GROUPS) * 256,)
    assert first.wave.abs().max() <= 0.99 and first.wave.std() > 1e-3 and not first.complete
    assert torch.equal(first.wave, again.wave) and not torch.equal(first.wave, other.wave)


def test_codes_fit_the_pattern_and_are_counted(networks, prompt):
    seen = []
    said = draw_codes(networks.llm, prompt, 3, max_length=len(prompt) + 5 * GROUPS, report=seen.append)
    assert fits_pattern(said.codes) and len(said.codes) == 5 * GROUPS and seen == list(range(1, 5 * GROUPS + 1))


def test_a_caller_can_stop_between_ids(networks, prompt):
    def stop(count):
        if count == 7:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        draw_codes(networks.llm, prompt, 3, report=stop, max_length=len(prompt) + 100)


def test_steps_alone_are_speak(networks, prompt):
    said = draw_codes(networks.llm, prompt, 1, max_length=len(prompt) + 5 * GROUPS)
    steps = []
    mel = draw_mel(networks.flow, said.codes, tiny_voice(), 1, report=steps.append)
    assert steps == list(range(1, 11)) and mel.shape == (1, 16, networks.flow.frames(5 * GROUPS))
    assert torch.equal(draw_wave(networks.hift, mel, 1), _speak(networks, prompt, 1).wave)


@torch.no_grad()
def test_a_voice_changes_the_sound_of_the_same_codes(networks):
    codes = tiny_voice(seed=5).codes.tolist()
    one, other = (draw_mel(networks.flow, codes, tiny_voice(seed), 1) for seed in (1, 2))
    assert one.shape == other.shape and not torch.allclose(one, other, atol=1e-3)


class Ending(StepAudioLLM):
    """Ends the turn behind the first group that is complete at `after` ids."""

    after = 0

    def head(self, x):
        logits = super().head(x)
        logits[..., 3] = 99.0 if self.after <= 0 else -99.0
        self.after -= 1
        return logits


def test_an_ended_text_is_complete(networks, prompt, subtests):
    for after, codes in [(1, 5), (5, 5), (6, 10)]:
        with subtests.test(after=after, codes=codes):
            llm = Ending(networks.llm.params)
            llm.load_state_dict(networks.llm.state_dict())
            llm.after = after
            said = draw_codes(llm, prompt, 0, max_length=len(prompt) + 40)
            assert said.complete and len(said.codes) == codes


def test_a_model_that_ends_at_once_is_told(networks, prompt):
    llm = Ending(networks.llm.params)
    llm.load_state_dict(networks.llm.state_dict())
    with pytest.raises(ValueError, match="before it said anything"):
        draw_codes(llm, prompt, 0, max_length=len(prompt) + 40)


@pytest.mark.parametrize("component", PARTS)
def test_networks_are_exactly_the_files(stored, component):
    module, files = build(stored, component)
    assert set(module.state_dict()) == set(files.entries)
    assert files.nbytes == sum(entry.nbytes for entry in files.entries.values())
    loaded = {
        "step_audio_llm": lambda: load_step_audio_llm(stored),
        "flow": lambda: load_flow(stored),
        "flow_music": lambda: load_flow(stored, component="flow_music"),
        "hift": lambda: load_hift(stored),
        "hift_music": lambda: load_hift(stored, component="hift_music"),
    }[component]()
    path = files.files[0]
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_the_music_vocoder_is_another_one(stored):
    one, other = load_flow(stored), load_flow(stored, component="flow_music")
    assert not torch.equal(one.encoder_proj.weight, other.encoder_proj.weight)
    assert len({fingerprint(stored, component, torch.float32) for component in PARTS}) == len(PARTS)


def test_a_fingerprint_covers_the_config(folder):
    before = {name: fingerprint(folder, name, torch.float32) for name in PARTS}
    for path in (folder / VOCODER / "cosyvoice.yaml", folder / "tokenizer.model"):
        with open(path, "ab") as file:
            file.write(b"\n")
    after = {name: fingerprint(folder, name, torch.float32) for name in PARTS}
    assert [name for name in PARTS if before[name] != after[name]] == ["step_audio_llm", "flow", "hift"]


def _resave(path, change):
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


@pytest.mark.parametrize(
    "file, change, sentence",
    [
        ("flow.pt", lambda t: t.pop("encoder_proj.bias"), "lacks 1 tensors .*encoder_proj.bias"),
        ("flow.pt", lambda t: t.update(more=torch.zeros(2)), "has 1 tensors .*more"),
        ("flow.pt", lambda t: t.update({"encoder_proj.bias": torch.zeros(9)}), r"encoder_proj.bias .*\(9,\).*\(16,\)"),
        ("hift.pt", lambda t: t.pop("conv_pre.weight_g"), "lacks 1 tensors .*conv_pre.weight_g"),
        ("hift.pt", lambda t: t.update({"conv_pre.weight": t.pop("conv_pre.weight_v")}), "conv_pre.weight_v"),
    ],
)
def test_keys_and_shapes_are_strict(folder, file, change, sentence):
    _resave(folder / VOCODER / file, change)
    with pytest.raises(CheckpointError, match=sentence):
        build(folder, file.removesuffix(".pt"))


class Trap:
    """A pickle that would run code."""

    def __reduce__(self):
        return print, ("a pickle was executed",)


@pytest.mark.parametrize("content", [Trap(), {"encoder_proj.bias": Trap()}, OrderedDict(a=Trap())])
def test_a_pickle_with_more_than_tensors_is_not_opened(folder, content, capsys):
    torch.save(content, folder / VOCODER / "flow.pt")
    with pytest.raises(
        CheckpointError, match=r"more than tensors \(it would import __builtin__ print\) and was not opened"
    ):
        build(folder, "flow")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "component, break_it, sentence",
    [
        ("flow", lambda f: (f / VOCODER / "cosyvoice.yaml").unlink(), "cosyvoice.yaml is missing"),
        ("flow", lambda f: (f / VOCODER / "flow.pt").unlink(), "has no weights: flow.pt"),
        ("hift", lambda f: (f / VOCODER / "hift.pt").write_bytes(b"PK\x03\x04" + bytes(99)), "cut short"),
        ("hift", lambda f: (f / VOCODER / "cosyvoice.yaml").write_text("hift: 1\n"), "hift is no section"),
        (
            "flow",
            lambda f: (f / VOCODER / "cosyvoice.yaml").write_text("x: 1\n"),
            "yaml describes no flow .*no section",
        ),
        ("step_audio_llm", lambda f: (f / "config.json").write_text("{}"), "describes no step_audio_llm"),
        ("step_audio_llm", lambda f: (f / "model-00001.safetensors").unlink(), "1 files that are not there"),
    ],
)
def test_defects_are_sentences(folder, component, break_it, sentence):
    break_it(folder)
    with pytest.raises(CheckpointError, match=sentence):
        build(folder, component)


def test_another_frame_rate_is_an_error_not_slow_speech(folder):
    path = folder / VOCODER / "cosyvoice.yaml"
    path.write_text(path.read_text().replace("input_frame_rate: 41.67", "input_frame_rate: 50"))
    with pytest.raises(CheckpointError, match="describes no flow .*input_frame_rate is 50"):
        load_flow(folder)


def test_int8_files_of_the_language_model(stored, tmp_path):
    """Written once more in the public layout: int8 layers, all else as it was."""
    Int8Files(stored, "step_audio_llm", tmp_path / "int8").write()
    files = ComponentFiles(tmp_path / "int8", "step_audio_llm")
    config = json.loads((tmp_path / "int8" / "config.json").read_text())
    assert files.is_int8 and config == json.loads((stored / "config.json").read_text())
    layers = [name for name in files.entries if name.startswith("model.layers.") and name.endswith("proj.weight")]
    assert len(layers) == 14 and all(files.entries[name].dtype == torch.int8 for name in layers)
    assert (tmp_path / "int8" / "tokenizer.model").is_file()


def test_public_files_have_the_size_of_these_networks():
    """What torch.save writes of them, within 16 KiB (of names and alignment) of the published files' bytes.

    The flow with 5,120 codes and the vocoder: 421,995,212 and 81,904,323 bytes by the public classes; the files are
    told as 422 MB and 81.9 MB.
    """

    class Counter:
        size = 0

        def write(self, data):
            self.size += len(data)
            return len(data)

        def flush(self):
            pass

    for network, published in (
        (lambda: Flow(replace(FlowParams(), vocabulary=5120)), 421_995_212),
        (lambda: HiFT(HiFTParams()), 81_904_323),
    ):
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in network().state_dict().items()}
        counter = Counter()
        torch.save(OrderedDict((name, torch.zeros(shape)) for name, shape in shapes.items()), counter)
        assert abs(counter.size - published) <= 16 << 10
