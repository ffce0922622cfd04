"""The smallest checkpoint folder of every component, for tests that want files rather than meaning."""

from studio.nano.checkpoint import NanoSizes

TINY = NanoSizes(
    heads=1,
    layers=2,
    latent_channels=4,
    llm_width=64,
    llm_layers=2,
    llm_heads=2,
    llm_groups=1,
    llm_ffn=64,
    clip_width=32,
    clip_layers=2,
    clip_heads=2,
    vae_channels=8,
    norm_groups=4,
)
