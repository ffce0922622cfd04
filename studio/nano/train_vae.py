"""Stage "vae": the video VAE learns the world's pictures, then its clips.

Three phases in one run, since latent 0 of a clip is the latent of its first frame alone: single frames; clips cut to
quarters (a VAE is convolutional, and a cut costs a quarter); whole clips. The public layout has no scale factor and
shortcuts run around both ends of the network, so nothing can be folded in afterwards: a penalty holds each latent
channel at mean 0 and deviation 1 from the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.geometry import CHUNK_FRAMES
from models.vae import VAE, VAEParams
from studio.nano.dtype import training_dtype
from studio.nano.render import Clips, render
from studio.nano.train import Loop, LoopSettings, gradient_loss, step_generator
from studio.nano.world import WORLDS, Scene, draw_scene

# Below 4 channels a group, group norm is instance norm, which cannot carry a frame's mean colour: hence 8 groups.
VAE_CONFIG = {
    "version": 2, "z_channels": 16, "num_res_blocks": 1, "norm_groups": 8,
    "encoder": {"ch": 32, "ch_mult": [1, 1, 2, 2]}, "decoder": {"ch": 32, "ch_mult": [1, 1, 2, 2]},
}  # fmt: skip
TRAINING_SEED = 1_000_000  # scenes below are held out, for the judge
SEED_STRIDE = 1_000  # scenes a step may use


@dataclass(frozen=True)
class VAESettings:
    """What the phases see: (share of the steps it begins at, frames, cut size, batch)."""

    loop: LoopSettings
    size: int = 64
    # Single frames are cut too: at 1x64x64 oneDNN's bfloat16 weight gradient of conv3d (4 frames, 32 channels) is nan.
    phases: tuple[tuple[float, int, int, int], ...] = ((0.0, 1, 32, 16), (0.1, CHUNK_FRAMES, 32, 8),
                                                       (0.35, CHUNK_FRAMES, 64, 4))  # fmt: skip
    small_share: float = 0.9  # of the scenes; the others come from the whole world
    noise: float = 0.1  # of the latents while the decoder is polished: what a denoiser gives is never exact
    focus: float = 3.0  # extra weight of objects and what is 2 pixels around them: a tenth of a clip, and all it tells
    divergence: float = 1e-4
    spread: float = 4e-3


def train_vae(settings: VAESettings, folder: Path, device: torch.device | str = "cpu") -> VAE:
    """Train, or continue to train, the VAE whose state is in `folder`."""
    torch.manual_seed(0)
    vae = VAE(VAEParams.from_config(VAE_CONFIG)).to(device)
    loop = Loop(vae, settings.loop, folder / "vae.pt")
    loop.resume()
    loop.run(lambda step: vae_loss(vae, settings, step, device))
    return vae.eval()


def polish_decoder(settings: VAESettings, scenes: Sequence[Scene], latents: Tensor, folder: Path) -> VAE:
    """Train the decoder alone on clips whose latents are at hand; the latents, and what learned them, stay valid.

    latents (n, 3, z, h, w) of `scenes` at settings.size. The result is in folder/decoder.pt.
    """
    vae = load_trained_vae(folder)
    loop = Loop(vae.decoder.requires_grad_(True), settings.loop, folder / "decoder.pt")
    loop.resume()
    count = settings.phases[-1][-1]

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = step_generator(3, step)
        rows = torch.randint(len(scenes), (count,), generator=draw).tolist()
        clips = render([scenes[row] for row in rows], CHUNK_FRAMES, settings.size, settings.size)
        given = latents[rows].float()
        given = given + settings.noise * torch.randn(given.shape, generator=draw)
        with _autocast("cpu"):
            got = vae.decode(given).float()
        return _picture_loss(got, clips.video, _weights(clips, settings.focus)), {"psnr": _psnr(got, clips.video)}

    loop.run(loss_of)
    return vae.eval()


def load_trained_vae(folder: Path, device: torch.device | str = "cpu") -> VAE:
    """The VAE that `train_vae` left in `folder`, its decoder polished where that was done; for use."""
    vae = VAE(VAEParams.from_config(VAE_CONFIG))
    vae.load_state_dict(torch.load(folder / "vae.pt", weights_only=True, map_location="cpu")["module"])
    if (polished := folder / "decoder.pt").is_file():
        vae.decoder.load_state_dict(torch.load(polished, weights_only=True, map_location="cpu")["module"])
    return vae.to(device).eval().requires_grad_(False)


def vae_loss(vae: VAE, settings: VAESettings, step: int, device: torch.device | str) -> tuple[Tensor, dict[str, float]]:
    """One step's loss: squared, absolute and edge errors, the posterior's divergence, the latents' spread."""
    random = step_generator(1, step)
    video, weights = (part.to(device) for part in _batch(settings, step, random))
    with _autocast(device):
        mean, logvar = vae.encode_moments(video).float().chunk(2, dim=2)
        logvar = logvar.clamp(-12, 4)
        noise = torch.randn(mean.shape, generator=random).to(device)
        got = vae.decode(mean + noise * (0.5 * logvar).exp()).float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss = _picture_loss(got, video, weights) + settings.divergence * divergence + settings.spread * _spread(mean)
    return loss, {"psnr": _psnr(got, video), "divergence": divergence.item(), "deviation": mean.std().item()}


def _autocast(device: torch.device | str) -> torch.autocast:
    kind, dtype = torch.device(device).type, training_dtype(str(device))
    return torch.autocast(kind, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _picture_loss(got: Tensor, video: Tensor, weights: Tensor) -> Tensor:
    """Squared, absolute and edge errors of clips (b, t, 3, H, W), each pixel by its weight (b, t, 1, H, W)."""
    apart = got - video
    errors = apart.square() + 0.1 * apart.abs()
    return (weights * errors).mean() / weights.mean() + 0.1 * gradient_loss(got, video, weights)


def _weights(clips: Clips, focus: float) -> Tensor:
    """1 everywhere, 1 + focus on objects and 2 pixels around them: (b, t, 1, H, W)."""
    objects = clips.masks.any(1).float()
    return 1 + focus * functional.max_pool2d(objects, 5, 1, 2)[:, :, None]


def _psnr(got: Tensor, video: Tensor) -> float:
    return (10 * torch.log10(4 / (got - video).detach().square().mean())).item()


def _batch(settings: VAESettings, step: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips (b, t, 3, h, w) of the step's phase, and their pixels' weights (b, t, 1, h, w)."""
    share = step / settings.loop.steps
    _, frames, cut, count = [phase for phase in settings.phases if share >= phase[0]][-1]
    small = torch.rand(count, generator=random) < settings.small_share
    first = TRAINING_SEED + step * SEED_STRIDE
    scenes = [draw_scene(first + i, WORLDS["small" if small[i] else "full"]) for i in range(count)]
    clips = render(scenes, max(frames, 2), settings.size, settings.size)
    both = torch.cat((clips.video, _weights(clips, settings.focus)), 2)
    if frames == 1:
        both = both[torch.arange(count), torch.randint(2, (count,), generator=random)][:, None]
    top, left = (int(torch.randint(settings.size - cut + 1, (), generator=random)) for _ in range(2))
    return both[..., top : top + cut, left : left + cut].split((3, 1), 2)


def _spread(mean: Tensor) -> Tensor:
    """How far each channel is from mean 0 and deviation 1 over the batch."""
    channels = mean.transpose(1, 2).transpose(0, 1).flatten(1)
    return channels.mean(1).square().mean() + (channels.var(1) + 1e-4).log().square().mean()
