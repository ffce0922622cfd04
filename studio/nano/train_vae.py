"""Stage "vae": the video VAE learns the world's clips in windows cut out of larger pictures.

It starts from an earlier VAE (`start_from`), whose decoder may be wider than the new one. A VAE is convolutional but
for the attention in its middle, so windows of 64 pixels teach most of it at a fraction of the cost; the last phases
show whole pictures, whose attention and norms see other numbers of pixels. Windows go where an object is, for the
rest of a picture is easy. The public layout has no scale factor, so a penalty holds each latent channel near mean 0
and deviation 1. Stage "decoder" goes on with the decoder alone, on latents that no longer change.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.geometry import CHUNK_FRAMES, PIXELS_PER_LATENT
from models.vae import VAE, VAEParams
from studio.nano.checkpoint import SIZES
from studio.nano.dtype import training_dtype
from studio.nano.render import Clips, Window, layer_maps, render
from studio.nano.train import Loop, LoopSettings, gradient_loss, step_generator
from studio.nano.train_denoiser import LatentClips
from studio.nano.world import WORLDS, Scene, draw_scene

VAE_CONFIG = SIZES.vae_config()
Redraw = Callable[[LatentClips, int, torch.Generator], Tensor]  # clips, row, randomness -> latents (1, f, z, h, w)
TRAINING_SEED = 1_000_000  # scenes below are held out, for the judge
SEED_STRIDE = 1_000  # scenes a step may use


@dataclass(frozen=True)
class Phase:
    """From `begin` (share of the steps) on: `count` windows of height x width out of pictures of picture's size."""

    begin: float
    picture: tuple[int, int]
    height: int
    width: int
    count: int


PHASES = (
    Phase(0.0, (128, 224), 64, 64, 4),
    Phase(0.6, (128, 224), 96, 96, 2),
    Phase(0.8, (128, 224), 128, 224, 1),
)


@dataclass(frozen=True)
class VAESettings:
    """What the phases see, and what an error costs."""

    loop: LoopSettings
    phases: tuple[Phase, ...] = PHASES
    small_share: float = 0.8  # of the scenes; the others come from the whole world
    aimed: float = 0.7  # of the windows are round an object
    noise: float = 0.2  # at most, of the latents while the decoder is polished: what a denoiser gives is never exact
    focus: float = 1.0  # extra weight of objects
    edge: float = 4.0  # extra weight of EDGE pixels on both sides of their outlines
    absolute: float = 0.3
    gradient: float = 0.3
    divergence: float = 1e-4
    spread: float = 4e-3


EDGE = 2


def train_vae(
    settings: VAESettings, folder: Path, start: Mapping[str, Tensor] | None = None, device: torch.device | str = "cpu"
) -> VAE:
    """Train, or continue to train, the VAE whose state is in `folder`; a new one begins with the weights `start`."""
    torch.manual_seed(0)
    vae = VAE(VAEParams.from_config(VAE_CONFIG)).to(device)
    loop = Loop(vae, settings.loop, folder / "vae.pt")
    if not loop.resume() and start:
        loop.begin_with(start)
    loop.run(lambda step: vae_loss(vae, settings, step, device))
    return vae.eval()


def start_from(wide: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an earlier VAE cut to today's widths: every second channel where there are twice as many.

    What is cut has to be learned again, but in a tenth of the steps that random filters need. Where only today's
    widths need a shortcut, it begins by passing the same channels on.
    """
    begin = {}
    for name, want in VAE(VAEParams.from_config(VAE_CONFIG)).state_dict().items():
        if name not in wide:
            begin[name] = torch.zeros_like(want)
            if want.ndim > 1:
                begin[name][:, :: want.shape[1] // want.shape[0], 0, 0, 0] = torch.eye(len(want))
            continue
        begin[name] = wide[name].float()
        for dim, now in enumerate(want.shape):
            if (times := begin[name].shape[dim] // now) > 1:
                kept = begin[name].unflatten(dim, (now, times)).select(dim + 1, 0)
                begin[name] = kept * (times if dim else 1)  # as much comes in as before
    return begin


def polish_decoder(
    settings: VAESettings, sets: Sequence[LatentClips], folder: Path, redraw: Redraw | None = None
) -> VAE:
    """Train the decoder alone on whole clips whose latents are at hand, which stay valid, and what learned them too.

    sets: drawn from evenly, all of 17 frames. Half of the clips come with noise of at most settings.noise; the others
    as `redraw` gives them, a denoiser's own drawing of the same clip. The result is in folder/decoder.pt.
    """
    vae = load_trained_vae(folder)
    loop = Loop(vae.decoder.requires_grad_(True), settings.loop, folder / "decoder.pt")
    loop.resume()

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        draw = step_generator(3, step)
        clips = sets[int(torch.randint(len(sets), (), generator=draw))]
        row = int(torch.randint(len(clips.scenes), (), generator=draw))
        given, (kind, amount) = clips.latents[row : row + 1].float(), torch.rand(2, generator=draw).tolist()
        height, width = (PIXELS_PER_LATENT * size for size in given.shape[-2:])
        clip = render([clips.scenes[row]], CHUNK_FRAMES, height, width)
        if redraw and kind < 0.5:
            given = redraw(clips, row, draw)
        else:
            given = given + settings.noise * amount * torch.randn(given.shape, generator=draw)
        with _autocast("cpu"):
            got = vae.decode(given).float()
        return _picture_loss(got, clip.video, _weights(clip, settings), settings), {"psnr": _psnr(got, clip.video)}

    loop.run(loss_of)
    return vae.eval()


def load_trained_vae(folder: Path, device: torch.device | str = "cpu") -> VAE:
    """The VAE that `train_vae` left in `folder`, its decoder polished where that was done; for use."""
    vae = VAE(VAEParams.from_config(VAE_CONFIG))
    vae.load_state_dict(_for_use(folder / "vae.pt"))
    if (polished := folder / "decoder.pt").is_file():
        vae.decoder.load_state_dict(_for_use(polished))
    return vae.to(device).eval().requires_grad_(False)


def _for_use(file: Path) -> dict[str, Tensor]:
    state = torch.load(file, weights_only=True, map_location="cpu")
    return state["average"] or state["module"]


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
    loss = _picture_loss(got, video, weights, settings)
    loss = loss + settings.divergence * divergence + settings.spread * _spread(mean)
    return loss, {"psnr": _psnr(got, video), "divergence": divergence.item(), "deviation": mean.std().item()}


def _autocast(device: torch.device | str) -> torch.autocast:
    kind, dtype = torch.device(device).type, training_dtype(str(device))
    return torch.autocast(kind, torch.bfloat16, enabled=dtype == torch.bfloat16)


def _picture_loss(got: Tensor, video: Tensor, weights: Tensor, settings: VAESettings) -> Tensor:
    """Squared, absolute and edge errors of clips (b, t, 3, H, W), each pixel by its weight (b, t, 1, H, W)."""
    apart = got - video
    errors = apart.square() + settings.absolute * apart.abs()
    return (weights * errors).mean() / weights.mean() + settings.gradient * gradient_loss(got, video, weights)


def _weights(clips: Clips, settings: VAESettings) -> Tensor:
    """1 everywhere, more on objects and most along their outlines: (b, t, 1, H, W)."""
    objects = clips.masks.any(1).float()
    size = 2 * EDGE + 1
    grown = functional.max_pool2d(objects, size, 1, EDGE)
    shrunk = -functional.max_pool2d(-objects, size, 1, EDGE)
    return (1 + settings.focus * objects + settings.edge * (grown - shrunk))[:, :, None]


def _psnr(got: Tensor, video: Tensor) -> float:
    return (10 * torch.log10(4 / (got - video).detach().square().mean())).item()


def _batch(settings: VAESettings, step: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips (b, t, 3, h, w) of the step's phase, and their pixels' weights (b, t, 1, h, w)."""
    share = step / settings.loop.steps
    phase = [phase for phase in settings.phases if share >= phase.begin][-1]
    parts = []
    for i in range(phase.count):
        small, aimed = torch.rand(2, generator=random).tolist()
        world = WORLDS["small" if small < settings.small_share else "full"]
        scene = draw_scene(TRAINING_SEED + step * SEED_STRIDE + i, world)
        window = _window(scene, phase, random, aimed=aimed < settings.aimed)
        clip = render([scene], CHUNK_FRAMES, *phase.picture, window=window)
        parts.append(torch.cat((clip.video, _weights(clip, settings)), 2))
    return torch.cat(parts).split((3, 1), 2)


def _window(scene: Scene, phase: Phase, random: torch.Generator, *, aimed: bool) -> Window:
    """Where to cut: anywhere, or so that an object's middle, at some moment, is inside the window."""
    space = torch.tensor(phase.picture) - torch.tensor((phase.height, phase.width))
    place = torch.rand(2, generator=random)
    if aimed:
        moment = int(torch.randint(CHUNK_FRAMES, (), generator=random))
        x, y = torch.linalg.inv(layer_maps([scene], CHUNK_FRAMES)[0, 2, moment])[:2, 2].tolist()
        middle = torch.tensor((y, x)) * min(phase.picture) + torch.tensor(phase.picture) / 2
        corner = middle - place * torch.tensor((phase.height, phase.width))
    else:
        corner = place * space
    top, left = (int(min(max(at, 0), room)) for at, room in zip(corner.tolist(), space.tolist(), strict=True))
    return top, left, phase.height, phase.width


def _spread(mean: Tensor) -> Tensor:
    """How far each channel is from mean 0 and deviation 1 over the batch."""
    channels = mean.transpose(1, 2).transpose(0, 1).flatten(1)
    return channels.mean(1).square().mean() + (channels.var(1) + 1e-4).log().square().mean()
