"""The VAE against the public one's recorded outputs, its own structure, and its slices against the whole."""

import hashlib
import itertools
import re

import pytest
import torch

from models.vae import VAE, VAEParams
from models.vae_convs import Keep
from models.vae_layers import FrameNorm
from tests.golden.rule import GOLDEN, PARITY, fill, golden, normal, relative_error

C, H, W = (PARITY["latent"][name] for name in ("channels", "height", "width"))
RECORDED = golden("vae")
ROUNDING = {torch.float64: 1e-12, torch.float32: 5e-6}


@pytest.fixture(scope="module")
def vae() -> VAE:
    return fill(VAE(VAEParams.from_config(PARITY["vae"])), PARITY["vae_keys"]).requires_grad_(False)


@pytest.fixture(scope="module")
def exact() -> list[tuple[VAE, torch.dtype, float]]:
    """A small VAE in each precision, and what rounding may do there."""
    found = []
    for dtype, rounding in ROUNDING.items():
        network = VAE(VAEParams(2, (4, 4, 8, 8), (4, 4, 8, 8), encoder_base=4, norm_groups=2))
        fill(network, {key: list(tensor.shape) for key, tensor in network.state_dict().items()})
        found.append((network.requires_grad_(False).to(dtype), dtype, rounding))
    return found


def test_every_recorded_tensor_is_checked():
    assert set(RECORDED) == {"moments_1", "moments_17", "moments_34", "decoded_17", "decoded_34"}


def test_encodes_as_the_public_vae(vae):
    video = (0.5 * normal("video", (1, 34, 3, 16 * H, 16 * W))).clamp(-1, 1)
    for frames in (1, 17, 34):
        error = relative_error(vae.encode_moments(video[:, :frames]), RECORDED[f"moments_{frames}"])
        assert error <= 1e-5, frames


def test_decodes_as_the_public_vae(vae):
    """In slices that compute the first chunk; whole, chunks are one batch."""
    latents = normal("latents", (1, 6, C, H, W))
    assert relative_error(vae.decode(latents), RECORDED["decoded_34"]) <= 1e-5
    assert relative_error(vae.decode(latents[:, :3]), RECORDED["decoded_17"]) <= 1e-5
    for keep in (Keep.SUMS, Keep.WINDOWS):
        for frames in (17, 34):
            pieces = [*vae.decode_chunks(latents[:, : frames * 3 // 17], keep=keep)]
            assert relative_error(torch.cat(pieces, dim=1), RECORDED[f"decoded_{frames}"]) <= 1e-5, (keep, frames)


def test_the_first_latent_is_the_first_frame_alone(exact):
    for vae, dtype, rounding in exact:
        video = normal("picture", (2, 17, 3, 16, 16 * W)).to(dtype)
        error = relative_error(vae.encode_moments(video)[:, :1], vae.encode_moments(video[:, :1]))
        assert error <= rounding, dtype


def test_the_first_frame_is_the_first_latent_alone(exact):
    for vae, dtype, rounding in exact:
        latents = normal("first", (2, 3, 2, 1, W)).to(dtype)
        assert relative_error(vae.decode(latents)[:, :1], vae.decode(latents[:, :1])) <= rounding, dtype


def test_pieces_are_the_whole_and_shared_windows_the_same_bits(exact):
    for vae, dtype, rounding in exact:
        latents = normal("sliced", (2, 6, 2, 1, W)).to(dtype)
        whole = vae.decode(latents)
        pieces = {keep: list(vae.decode_chunks(latents, keep=keep)) for keep in Keep}
        assert max(piece.shape[1] for piece in pieces[Keep.SUMS]) == 2, dtype
        assert {piece.shape[1] for piece in pieces[Keep.WINDOWS]} == {1}, dtype
        found = {keep: torch.cat(frames, dim=1) for keep, frames in pieces.items()}
        assert all(relative_error(frames, whole) <= rounding for frames in found.values()), dtype
        assert torch.equal(found[Keep.SHARED], found[Keep.WINDOWS]), dtype


@torch.no_grad()
def test_the_norm_of_cuda_is_the_group_norm():
    """Its operators exist on a CPU too. Channels whose means lie far apart, three images of their own statistics."""
    images = normal("images", (3, 32, 5, 7)).double() + 9 * normal("means", (3, 32, 1, 1)).double()
    images = images.contiguous(memory_format=torch.channels_last)
    norm = FrameNorm(8, 32).double()
    norm.weight.copy_(1 + normal("weight", (32,)))
    norm.bias.copy_(normal("bias", (32,)))
    bias, more = normal("bias", (32,)).double(), normal("more", images.shape).double()
    more = more.contiguous(memory_format=torch.channels_last)
    for silu, lacking, around in itertools.product((False, True), (None, bias), (None, more)):
        found = norm.channels_last(images, lacking, silu=silu, more=around)
        given = images if lacking is None else images + bias[:, None, None]
        wanted = norm(given[None], silu=silu, more=None if around is None else around[None])[0]
        if not silu and around is not None:
            continue  # added around SiLU alone
        assert relative_error(found, wanted) <= 1e-12, (silu, lacking is None, around is None)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_single_latent_is_a_single_frame(exact):
    for vae, dtype, rounding in exact:
        latents = normal("single", (1, 1, 2, H, W)).to(dtype)
        (piece,) = vae.decode_chunks(latents)
        assert relative_error(piece, vae.decode(latents)) <= rounding, dtype


def test_chunks_differ_from_lone_ones_only_at_the_seam(exact):
    for vae, dtype, rounding in exact:
        latents = normal("seam", (1, 6, 2, 1, W)).to(dtype)
        both = vae.decode(latents)
        alone = torch.cat([vae.decode(latents[:, :3]), vae.decode(latents[:, 3:])], dim=1)
        changed = [i for i in range(34) if relative_error(both[:, i], alone[:, i]) > rounding]
        assert changed == [16, 17], dtype
        back = 0.6 * alone[:, 17] + 0.4 * alone[:, 16]
        assert relative_error(both[:, 17], back) <= rounding, dtype
        assert relative_error(both[:, 16], 0.6 * alone[:, 16] + 0.4 * back) <= rounding, dtype


def test_a_batch_is_its_samples_and_gradients_reach_every_weight():
    torch.manual_seed(0)
    vae = VAE(VAEParams(z_channels=2, encoder_widths=(8,) * 4, decoder_widths=(8,) * 4, encoder_base=8, norm_groups=2))
    vae.double()
    video = torch.randn(2, 34, 3, 16, 16, dtype=torch.float64)
    moments = vae.encode_moments(video)
    decoded = vae.decode(moments[:, :, :2])
    alone = vae.decode(vae.encode_moments(video[1:])[:, :, :2])
    assert relative_error(decoded[1:].detach(), alone.detach()) <= 1e-12
    ((decoded - video).square().mean() + moments.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in vae.parameters())


def test_the_gradient_is_the_derivative():
    torch.manual_seed(0)
    vae = VAE(VAEParams(z_channels=1, encoder_widths=(4,) * 4, decoder_widths=(4,) * 4, encoder_base=4, norm_groups=2))
    vae.double().requires_grad_(False)
    video = torch.randn(1, 17, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    way = torch.randn_like(video)

    def loss(frames: torch.Tensor) -> torch.Tensor:
        return vae.decode(vae.encode_moments(frames)[:, :, :1]).square().mean()

    (slope,) = torch.autograd.grad(loss(video), video)
    with torch.no_grad():
        measured = (loss(video + 1e-6 * way) - loss(video - 1e-6 * way)) / 2e-6
    assert float((slope * way).sum()) == pytest.approx(float(measured), rel=1e-6)


def public_shapes() -> dict[str, str]:
    """Key -> shape of vae_v2.safetensors; in the golden file {1,2} stands for either."""
    shapes = {}
    for line in (GOLDEN / "keys_vae.tsv").read_text().splitlines():
        keys, shape = line.split("\t")
        parts = re.split(r"\{(.*?)\}", keys)
        choices = (part.split(",") if i % 2 else [part] for i, part in enumerate(parts))
        shapes |= {"".join(key): shape for key in itertools.product(*choices)}
    return shapes


def test_public_sizes_have_the_public_files_keys():
    """The hash is the one a public loader keeps of vae_v2.safetensors: of every "key:shape" and every key, sorted."""
    with torch.device("meta"):
        vae = VAE(VAEParams.from_config({}))
    shapes = {key: "x".join(map(str, tensor.shape)) for key, tensor in vae.state_dict().items()}
    assert shapes == public_shapes()
    assert sum(p.numel() for p in vae.parameters()) == 498_818_819
    words = sorted([f"{key}:{shape.replace('x', '_')}" for key, shape in shapes.items()] + list(shapes))
    assert hashlib.md5(",".join(words).encode()).hexdigest() == "68beaf8429b7c11aa8ca05b1bd0058bd"


def test_another_vae_changes_nothing(exact):
    """In the official code, the norm of every VAE is what the last one built asked for."""
    vae, latents = exact[0][0], normal("latents", (1, 1, 2, H, W)).double()
    before = vae.decode(latents)
    VAE(VAEParams(1, (4,) * 4, (4,) * 4, encoder_base=4, norm_groups=1))
    assert torch.equal(vae.decode(latents), before)


def test_impossible_configs_are_refused():
    for config, says in (
        ({"version": 1}, "version is 1"),
        ({"norm_groups": 5}, "5 norm groups"),
        ({"norm_groups": 0}, "norm_groups is 0"),
        ({"decoder": {"ch": 32}}, "no ch_mult"),
        ({"z_channels": 96}, "multiple of 384"),
        ({"encoder": {"ch": 32, "ch_mult": [1, 2]}}, "list of 4 numbers"),
    ):
        with pytest.raises(ValueError, match=says):
            VAEParams.from_config(config)


def test_impossible_sizes_are_refused(vae):
    with pytest.raises(ValueError, match="not 16 frames of 32x32"):
        vae.encode_moments(torch.zeros(1, 16, 3, 32, 32))
    with pytest.raises(ValueError, match="not 4"):
        vae.decode(torch.zeros(1, 4, C, 2, 2))
