"""Features of waveforms: every recorded one, and what must hold whatever the wave."""

import math

import pytest
import torch

from models.audio_features import (
    MelParams,
    kaldi_fbank,
    linguistic_fbank,
    mel_spectrogram,
    normalise_peak,
    povey,
    resample,
    semantic_log_mel,
    slaney_filters,
    speaker_fbank,
    trim_silence,
)
from tests.golden.audio.rule import golden
from tests.golden.rule import relative_error

RECORDED = golden("front")
FOUND = {
    "mel_22050": (lambda: mel_spectrogram(RECORDED["input_22050"], MelParams()), 1e-5),
    "campplus_fbank": (lambda: speaker_fbank(RECORDED["input_16000"]), 1e-4),
    "paraformer_fbank_no_dither": (lambda: linguistic_fbank(RECORDED["input_16000"]), 1e-4),
    "whisper_log_mel_128": (lambda: semantic_log_mel(RECORDED["input_16000"]), 1e-5),
    "trimmed_16000": (lambda: trim_silence(normalise_peak(RECORDED["input_16000"])), 1e-5),
    "resample_44100_16000": (lambda: resample(RECORDED["input_44100"], 44100, 16000), 1e-5),
    "resample_44100_22050": (lambda: resample(RECORDED["input_44100"], 44100, 22050), 1e-5),
    "resample_48000_16000": (lambda: resample(RECORDED["input_48000"], 48000, 16000), 1e-5),
}


def test_recorded_features(subtests):
    for name in FOUND:
        with subtests.test(name=name):
            feature, bound = FOUND[name]
            assert relative_error(feature(), RECORDED[name]) <= bound


def test_nothing_recorded_is_left_out():
    assert set(RECORDED) == set(FOUND) | {f"input_{rate}" for rate in (16000, 22050, 44100, 48000)}


def _tone(hertz, rate, seconds=0.4):
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(int(rate * seconds)) / rate)[None]


def test_a_tone_keeps_its_pitch_and_level(subtests):
    """Away from the ends: within 0.1 % of the tone at the new rate."""
    for rate, new_rate in [(8000, 16000), (11025, 22050), (96000, 16000), (32000, 22050)]:
        with subtests.test(rate=rate, new_rate=new_rate):
            new = resample(_tone(440, rate), rate, new_rate)
            wanted = _tone(440, new_rate)
            assert new.shape == wanted.shape
            middle = slice(new_rate // 10, -new_rate // 10)
            assert relative_error(new[:, middle], wanted[:, middle]) <= 1e-3


def test_what_the_new_rate_cannot_hold_is_gone():
    """48 dB below the tone; six crossings of a sinc give no more than 53."""
    assert resample(_tone(12000, 48000), 48000, 16000)[:, 400:-400].abs().max() <= 2e-3
    assert resample(_tone(440, 16000), 16000, 16000).shape == (1, 6400)


def test_mel_frames_are_whole_hops(subtests):
    for samples, frames in [(22050, 86), (400, 1), (256 * 10, 10), (256 * 10 - 1, 9)]:
        with subtests.test(samples=samples, frames=frames):
            mel = mel_spectrogram(torch.zeros(1, samples), MelParams())
            assert mel.shape == (1, 80, frames)
            assert torch.allclose(mel, torch.tensor(math.log(1e-5)), atol=0.1)  # silence is the floor


def test_a_tone_is_loudest_in_its_band(subtests):
    for hertz in [300, 1000, 3000, 7000]:
        with subtests.test(hertz=hertz):
            filters = slaney_filters(22050, 1024, 80, 0.0, 8000.0)
            band = int(filters[:, round(hertz / 22050 * 1024)].argmax())
            assert abs(int(mel_spectrogram(_tone(hertz, 22050), MelParams())[0, :, 20].argmax()) - band) <= 1


def test_loudness_moves_a_filter_bank_by_its_logarithm():
    """Ten times the wave: log(100) more wherever it is above the floor."""
    wave = 100 * RECORDED["input_16000"]
    quiet, loud = kaldi_fbank(wave, povey()), kaldi_fbank(10 * wave, povey())
    above = quiet > math.log(1e-5)
    assert above.float().mean() > 0.9
    assert (loud - quiet)[above].sub(math.log(100)).abs().max() <= 1e-3


def test_filter_banks_have_whole_frames_only(subtests):
    for samples, frames in [(400, 1), (559, 1), (560, 2), (16000, 98)]:
        with subtests.test(samples=samples, frames=frames):
            assert kaldi_fbank(torch.zeros(1, samples), povey()).shape == (frames, 80)


def test_peak_is_normalised_up_to_a_hundredfold():
    assert normalise_peak(torch.tensor([[0.5, -0.2]])).abs().max() == pytest.approx(0.999)
    assert normalise_peak(torch.tensor([[0.001, 0.0]])).max() == pytest.approx(0.0999)


def test_trimming_keeps_the_sound_and_a_little_silence(subtests):
    for before, behind in [(8000, 8000), (0, 0), (100, 20000)]:
        with subtests.test(before=before, behind=behind):
            sound = _tone(440, 16000, seconds=0.3)
            wave = torch.cat((torch.zeros(1, before), sound, torch.zeros(1, behind)), dim=1)
            trimmed = trim_silence(wave)
            found = trimmed.unfold(1, 4800, 1)[0]
            assert ((found - sound).abs().amax(dim=1) == 0).any()  # the sound is inside, whole
            assert 0.3 * 16000 + 4000 <= trimmed.shape[1] <= 0.3 * 16000 + 800 + 3520 + 1500
            assert (trimmed.shape[1] - 4320) % 240 == 0


def test_too_little_sound_is_an_error(subtests):
    for call, word in [
        (lambda: mel_spectrogram(torch.zeros(1, 384), MelParams()), "more than 384 samples"),
        (lambda: kaldi_fbank(torch.zeros(1, 399), povey()), "400 samples"),
        (lambda: trim_silence(torch.zeros(1, 0)), "no sound"),
        (lambda: resample(torch.zeros(1, 9), 0, 16000), "positive"),
    ]:
        with subtests.test(call=call, word=word):
            with pytest.raises(ValueError, match=word):
                call()
