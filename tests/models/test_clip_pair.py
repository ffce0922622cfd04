"""A tiny CLIP written by transformers itself, in its layout, whose answers are known by a rule."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from models.clip_pair import ClipPair
from models.regular_files import CheckpointError

WORDS = ["<|startoftext|>", "<|endoftext|>", "[UNK]", "red", "green", "blue", "a", "ball"]
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_tiny(folder: Path, *, by_rule: bool) -> CLIPModel:
    """A CLIP of 16 channels. by_rule: its transformers add nothing, and both towers answer with the colour: a picture
    with its mean colour, a text with the colours that its last word names."""
    torch.manual_seed(0)
    ends = {"eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1}
    text = {**TOWER, "vocab_size": 8, "max_position_embeddings": 10, **ends}
    vision = {**TOWER, "image_size": 32, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=3, **ends))
    if by_rule:
        _teach(model)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    start, end = WORDS[:2]
    tokenizer.post_processor = processors.TemplateProcessing(f"{start} $A {end}", special_tokens=[(start, 0), (end, 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return model


@torch.no_grad()
def _teach(model: CLIPModel) -> None:
    """All parameters 0 but the paths of the rule; a norm's bias and weight leave its input's direction as it is."""
    for name, parameter in model.named_parameters():
        parameter.zero_()
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layrnorm.weight")):
            parameter.fill_(1)
    # Pictures: the class token looks at all patches alike, whose first channels are the mean colours, and takes them.
    patches = model.vision_model.embeddings.patch_embedding.weight
    layer = model.vision_model.encoder.layers[0]
    for channel in range(3):
        patches[channel, channel] = 1 / 256
        patches[channel + 3, channel] = -1 / 256  # so that the norm, which takes the mean away, finds none
        layer.self_attn.v_proj.weight[channel, channel] = 1
        layer.self_attn.out_proj.weight[channel, channel] = 1
        model.visual_projection.weight[channel, channel] = 1
    # Texts: the end looks at all words alike; a colour's word is its channel.
    layer = model.text_model.encoder.layers[0]
    for channel, word in enumerate(("red", "green", "blue")):
        model.text_model.embeddings.token_embedding.weight[WORDS.index(word), channel] = 1
        model.text_model.embeddings.token_embedding.weight[WORDS.index(word), channel + 3] = -1
        layer.self_attn.v_proj.weight[channel, channel] = 1
        layer.self_attn.out_proj.weight[channel, channel] = 1
        model.text_projection.weight[channel, channel] = 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_tiny(folder, by_rule=True)
    return folder


def test_it_answers_as_the_official_network_with_the_official_pictures(tmp_path: Path) -> None:
    official = write_tiny(tmp_path, by_rule=False).eval()
    pair = ClipPair(tmp_path)
    frame = np.random.default_rng(0).integers(0, 255, (48, 90, 3), dtype=np.uint8)
    pixels = CLIPImageProcessor.from_pretrained(tmp_path)(frame, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        seen = official.get_image_features(pixels).pooler_output[0].numpy()
        read = official.get_text_features(torch.tensor([[0, 6, 3, 7, 1]])).pooler_output[0].numpy()
    assert np.allclose(pair.pictures([frame])[0], seen / np.linalg.norm(seen), atol=1e-3)  # a byte may differ by one
    assert np.allclose(pair.text("a RED ball"), read / np.linalg.norm(read), atol=1e-6)
    long = pair.text("ball " * 40)
    assert np.allclose(long, pair.text("ball " * 8), atol=1e-6), "what is too long is cut before the end"


def test_the_right_colour_is_nearest(tiny: Path) -> None:
    pair = ClipPair(tiny)
    frames = [np.full((40, 64, 3), colour, np.uint8) for colour in ((250, 20, 20), (20, 250, 20), (20, 20, 250))]
    likeness = pair.pictures(frames) @ np.stack([pair.text(f"a {word} ball") for word in ("red", "green", "blue")]).T
    assert likeness.argmax(1).tolist() == [0, 1, 2] and likeness.diagonal().min() > likeness[0, 1] + 0.5
    assert pair.name == ClipPair(tiny).name


def test_another_layout_is_one_sentence(tiny: Path, tmp_path: Path) -> None:
    def changed(name: str, **values: object) -> Path:
        folder = tmp_path / f"{name}-{'-'.join(values)}"
        folder.mkdir()
        for path in tiny.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        told = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps(told))
        return folder

    def without(name: str) -> Path:
        folder = changed(name, **{}) if name.endswith(".json") else changed("config.json")
        (folder / name).unlink()
        return folder

    wrong = {
        changed("config.json", model_type="siglip"): "model_type",
        changed("config.json", projection_dim=5): "has shape",
        changed("config.json", text_config={**TOWER, "vocab_size": 8, "num_hidden_layers": 1}): "differ in",
        changed("config.json", vision_config={**TOWER, "image_size": 30, "patch_size": 16}): "divide",
        changed("preprocessor_config.json", image_mean=[1]): "scaled",
        without("tokenizer.json"): "tokenizer.json is missing",
        without("model.safetensors"): "model.safetensors or pytorch_model.bin is missing",
        tmp_path / "nothing": "missing",
    }
    unsaid = []
    for folder, words in wrong.items():
        with pytest.raises(CheckpointError) as found:
            ClipPair(folder)
        unsaid += [] if words in str(found.value) and "\n" not in str(found.value) else [(words, str(found.value))]
    assert not unsaid
