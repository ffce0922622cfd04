"""The flow of Step-Audio-TTS-3B: mixed speech codes and a voice in, a mel spectrogram at 22,050 Hz out.

Conditional flow matching (CosyVoice): an encoder stretches the codes to mel frames, then 10 Euler steps lead from noise
to the mel, along a velocity that is guided away from an unconditional one. Officially all of it is bfloat16, times and
noise included, which blurs the steps (t = 0.0123 for 0.0125); here the state and the times are float32 whatever the
weights are.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.conformer import ConformerEncoder, EncoderParams, LengthRegulator
from models.flow_unet import UNet, UNetParams
from models.step_llm import WordEmbedding
from models.vocoder_config import Section

SAMPLE_RATE, HOP = 22050, 256  # of the mel
STEPS = 10
FRAME_RATES = (41.0, 42.0)  # mixed codes per second: 125/3 exactly, 41.6 in places


@dataclass(frozen=True)
class FlowParams:
    """The architecture. Sizes are those of CosyVoice-300M, whose flow has the file size of Step-Audio-TTS-3B's."""

    width: int = 512
    mel_channels: int = 80
    speaker_width: int = 192
    vocabulary: int = 5121  # rows of the table of codes: 5,120 or 5,121 by the file's size
    codes_per_second: float = 125 / 3
    guidance: float = 0.7
    regulator_layers: int = 4
    encoder: EncoderParams = field(default_factory=EncoderParams)
    unet: UNetParams = field(default_factory=UNetParams)

    def __post_init__(self) -> None:
        encoder, unet = self.encoder, self.unet
        if not FRAME_RATES[0] <= self.codes_per_second <= FRAME_RATES[1]:
            raise ValueError(
                f"input_frame_rate is {self.codes_per_second:g}, but codes mixed 2:3 come at 41.67 per second"
            )
        if encoder.width % (2 * encoder.heads) or any(c % 8 for c in unet.channels):
            raise ValueError(f"the sizes do not divide: {encoder}, {unet}")
        if unet.in_channels != 4 * self.mel_channels or unet.out_channels != self.mel_channels:
            raise ValueError(
                f"the estimator takes {unet.in_channels} and gives {unet.out_channels} channels; "
                f"mel, codes, speaker and prompt have {self.mel_channels} each"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "FlowParams":
        """From models.vocoder_config.read_vocoder_config. ValueError for what this class does not compute."""
        flow = Section(dict(config), "flow", "MaskedDiffWithXvec")
        flow.fixed(output_type="mel")
        flow.unused("only_mask_loss")
        width = flow.take("input_size")
        encoder = flow.section("encoder", "ConformerEncoder")
        encoder.fixed(input_size=width, input_layer="linear", normalize_before=True)
        encoder.fixed(pos_enc_layer_type="rel_pos_espnet", selfattention_layer_type="rel_selfattn")
        encoder.fixed(use_cnn_module=False, macaron_style=False)
        encoder.unused("dropout_rate", "positional_dropout_rate", "attention_dropout_rate")
        regulator = flow.section("length_regulator", "InterpolateRegulator")
        ratios = regulator.numbers("sampling_ratios")
        if set(ratios) != {1}:
            raise ValueError(f"length_regulator has sampling_ratios={list(ratios)}; only ones are supported")
        decoder = flow.section("decoder", "ConditionalCFM")
        decoder.unused("in_channels", "n_spks", "spk_emb_dim")
        cfm = decoder.section("cfm_params", "DictConfig")
        content = cfm.section("content")
        content.fixed(solver="euler", t_scheduler="cosine")
        content.unused("sigma_min", "training_cfg_rate", "reg_loss_type")
        estimator = decoder.section("estimator", "ConditionalDecoder")
        estimator.fixed(act_fn="gelu")
        estimator.unused("dropout")
        params = cls(
            width=width,
            mel_channels=flow.take("output_size"),
            speaker_width=flow.take("spk_embed_dim"),
            vocabulary=flow.take("vocab_size"),
            codes_per_second=flow.number("input_frame_rate"),
            guidance=content.number("inference_cfg_rate"),
            regulator_layers=len(ratios),
            encoder=EncoderParams(
                width=encoder.take("output_size"),
                heads=encoder.take("attention_heads"),
                ffn_width=encoder.take("linear_units"),
                layers=encoder.take("num_blocks"),
            ),
            unet=UNetParams(
                in_channels=estimator.take("in_channels"),
                out_channels=estimator.take("out_channels"),
                channels=estimator.numbers("channels"),
                heads=estimator.take("num_heads"),
                head_dim=estimator.take("attention_head_dim"),
                blocks=estimator.take("n_blocks"),
                mid_blocks=estimator.take("num_mid_blocks"),
            ),
        )
        regulator.fixed(channels=params.mel_channels)
        for section in (encoder, regulator, content, cfm, estimator, decoder, flow):
            section.end()
        return params


@dataclass(frozen=True)
class Condition:
    """What the velocity depends on besides the state: mu (1, c, n) of the codes, the speaker (1, c), the prompt's mel
    (1, c, n1), n1 the first of the n frames."""

    mu: Tensor
    speaker: Tensor
    prompt_mel: Tensor

    @property
    def channels(self) -> Tensor:
        """(1, 3 c, n): codes, speaker in every frame, prompt mel with zeros behind."""
        frames = self.mu.shape[2]
        prompt = F.pad(self.prompt_mel, (0, frames - self.prompt_mel.shape[2]))
        return torch.cat((self.mu, self.speaker[:, :, None].expand(-1, -1, frames), prompt), dim=1)


def times() -> list[float]:
    """The 11 times 1 - cos of equal steps, 0 to 1: short steps near the noise."""
    grid = torch.linspace(0, 1, STEPS + 1)
    return (1 - torch.cos(grid * 0.5 * math.pi)).tolist()


class Flow(nn.Module):
    """Codes and a voice -> mel. `condition`, then `solve`; `forward` is both in a row."""

    def __init__(self, params: FlowParams):
        super().__init__()
        self.params = params
        self.input_embedding = WordEmbedding(params.vocabulary, params.width)
        self.spk_embed_affine_layer = nn.Linear(params.speaker_width, params.mel_channels)
        self.encoder = ConformerEncoder(params.encoder, params.width)
        self.encoder_proj = nn.Linear(params.encoder.width, params.mel_channels)
        self.decoder = nn.ModuleDict({"estimator": UNet(params.unet)})
        self.length_regulator = LengthRegulator(params.mel_channels, params.regulator_layers)

    def frames(self, codes: int) -> int:
        """Mel frames of so many mixed codes."""
        return int(codes / self.params.codes_per_second * SAMPLE_RATE / HOP)

    def encode(self, codes: Tensor) -> Tensor:
        """Mixed codes (1, n) int64, the prompt's first -> (1, n, c). ValueError for a code without a row."""
        least, most = int(codes.min()), int(codes.max())
        if not 0 <= least <= most < self.params.vocabulary:
            raise ValueError(f"Speech codes are 0 to {self.params.vocabulary - 1}; there are {least} and {most}.")
        return self.encoder_proj(self.encoder(self.input_embedding(codes)))

    def condition(self, codes: Tensor, prompt_codes: Tensor, prompt_mel: Tensor, embedding: Tensor) -> Condition:
        """codes (1, n2), prompt_codes (1, n1) int64; prompt_mel (1, m1, c) and embedding (1, speaker_width) of a voice.

        Prompt codes are stretched onto the prompt's mel, whatever the length of either. n1 and m1 may be 0 together:
        the embedding alone then makes the voice. ValueError for no codes, or for a prompt of one kind alone.
        """
        if not codes.shape[1] or bool(prompt_codes.shape[1]) != bool(prompt_mel.shape[1]):
            raise ValueError(
                f"The flow needs codes, and codes and mel of a prompt together: there are {codes.shape[1]} codes, "
                f"{prompt_codes.shape[1]} of the prompt and {prompt_mel.shape[1]} of its mel frames."
            )
        dtype = self.encoder_proj.weight.dtype
        speaker = self.spk_embed_affine_layer(F.normalize(embedding.float(), dim=1).to(dtype))
        encoded = self.encode(torch.cat((prompt_codes, codes), dim=1))
        prompt, speech = encoded.split((prompt_codes.shape[1], codes.shape[1]), dim=1)
        mu = self.length_regulator(prompt, speech, prompt_mel.shape[1], self.frames(codes.shape[1]))
        return Condition(mu, speaker, prompt_mel.transpose(1, 2).to(dtype))

    def velocity(self, x: Tensor, time: float, condition: Condition) -> Tensor:
        """x (1, c, n) float32 -> (2, c, n) float32: the velocity under the condition, and without any."""
        given = condition.channels
        both = torch.cat((given, torch.zeros_like(given)))
        inputs = torch.cat((x.to(given.dtype).expand(2, -1, -1), both), dim=1)
        moments = torch.full((2,), time, dtype=torch.float32, device=x.device)
        return self.decoder["estimator"](inputs, moments).float()

    def solve(self, condition: Condition, noise: Tensor) -> Iterator[Tensor]:
        """Euler steps from noise (1, c, n) float32, all frames: yields the state after each of them, the last is mel.

        Yielding lets a caller count the steps and stop between them.
        """
        grid, guidance = times(), self.params.guidance
        x, time, step = noise, torch.tensor(grid[0]), torch.tensor(grid[1] - grid[0])
        for index in range(STEPS):
            conditional, free = self.velocity(x, float(time), condition).chunk(2)
            x = x + step.item() * ((1 + guidance) * conditional - guidance * free)
            time = time + step  # as officially: a running sum in float32, from which the next step is reckoned
            if index + 2 <= STEPS:
                step = torch.tensor(grid[index + 2]) - time
            yield x

    def forward(
        self, codes: Tensor, prompt_codes: Tensor, prompt_mel: Tensor, embedding: Tensor, noise: Tensor
    ) -> Tensor:
        """As `condition` and `solve` -> mel (1, c, frames of codes) float32, without the prompt's frames."""
        condition = self.condition(codes, prompt_codes, prompt_mel, embedding)
        *_, x = self.solve(condition, noise)
        return x[:, :, prompt_mel.shape[1] :]


def flow_noise(generator: torch.Generator, condition: Condition) -> Tensor:
    """What `solve` begins with (1, c, n), drawn on the CPU, so that a seed means the same on every device."""
    mu = condition.mu
    return torch.randn(mu.shape, generator=generator, dtype=torch.float32).to(mu.device)
