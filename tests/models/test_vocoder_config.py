"""cosyvoice.yaml: read as data, and every surprise in it told."""

import pytest

from models.audio_features import MelParams
from models.checkpoint import CheckpointError
from models.flow import FlowParams
from models.hift import HiFTParams
from models.vocoder_config import Section, read_vocoder_config
from tests.tiny_speech import YAML

READERS = (FlowParams, HiFTParams, MelParams)
PUBLIC = {  # of the tiny file -> of CosyVoice-300M with Step-Audio's table of codes
    "spk_embed_dim: 24": "spk_embed_dim: 192",
    "input_size: 32": "input_size: 512",
    "output_size: 16\n    spk": "output_size: 80\n    spk",
    "input_frame_rate: 41.67": "input_frame_rate: 41.666666666666664",
    "vocab_size: 5120": "vocab_size: 5121",
    "output_size: 32": "output_size: 512",
    "attention_heads: 4": "attention_heads: 8",
    "linear_units: 64": "linear_units: 2048",
    "num_blocks: 2": "num_blocks: 6",
    "channels: 16\n        sampling": "channels: 80\n        sampling",
    "in_channels: 64": "in_channels: 320",
    "out_channels: 16": "out_channels: 80",
    "channels: [32, 32]": "channels: [256, 256]",
    "attention_head_dim: 8": "attention_head_dim: 64",
    "n_blocks: 1": "n_blocks: 4",
    "num_mid_blocks: 1\n": "num_mid_blocks: 12\n",
    "num_heads: 4": "num_heads: 8",
    "in_channels: 16": "in_channels: 80",
    "base_channels: 16": "base_channels: 512",
    "cond_channels: 12": "cond_channels: 512",
    "num_mels: 16": "num_mels: 80",
}


@pytest.fixture
def read(tmp_path):
    """Write a text and read it: the three descriptions in it."""

    def write_and_read(text):
        path = tmp_path / "cosyvoice.yaml"
        path.write_text(text, encoding="utf-8")
        config = read_vocoder_config(path)
        return tuple(reader.from_config(config) for reader in READERS)

    return write_and_read


def _changed(*pairs):
    text = YAML
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_sizes_and_references(read):
    flow, hift, mel = read(YAML)
    assert (flow.width, flow.speaker_width, flow.codes_per_second, flow.guidance) == (32, 24, 41.67, 0.7)
    assert flow.unet.channels == (32, 32) and flow.encoder.layers == 2 and flow.regulator_layers == 4
    assert (hift.channels, hift.harmonics, hift.sample_rate, hift.dilations) == (16, 9, 22050, (1, 3, 5))
    assert mel == MelParams(channels=16)


def test_the_public_values_are_the_defaults(read):
    """CosyVoice-300M's, whose files have the size of Step-Audio's; the public yaml itself was never seen."""
    assert read(_changed(*PUBLIC.items())) == (FlowParams(), HiFTParams(), MelParams())


def test_what_makes_no_difference(read, subtests):
    for old, new in [
        ("input_frame_rate: 41.67", "input_frame_rate: 41"),
        ("dropout_rate: 0.1", "dropout_rate: 0.0"),
        ("only_mask_loss: True", "only_mask_loss: False"),
        ("'gelu'", '"gelu"'),
        ("output_type: 'mel'", "output_type: mel"),
        ("use_cnn_module: False", "use_cnn_module: false"),
        ("nsf_voiced_threshold: 10", "nsf_voiced_threshold: 10.0"),
        ("sample_rate: 22050\n", "sample_rate: 22050 # Hz\n"),
        ("    n_fft: 1024", "\n    # of the mel\n    n_fft: 1024"),
        ("!new:cosyvoice.flow.flow.MaskedDiffWithXvec", "!new:elsewhere.MaskedDiffWithXvec"),
    ]:
        with subtests.test(old=old, new=new):
            flow = read(_changed((old, new)))[0]
            assert flow.width == 32 and flow.encoder.heads == 4


def test_values_that_are_not_known_are_told(read, subtests):
    for old, new, sentence in [
        ("input_frame_rate: 41.67", "input_frame_rate: 50", "input_frame_rate is 50"),
        ("input_frame_rate: 41.67", "input_frame_rate: 25", "input_frame_rate is 25"),
        ("    input_frame_rate: 41.67  # mixed codes\n", "", "flow has no input_frame_rate"),
        ("vocab_size: 5120", "vocab_size: 5120.5", "vocab_size=5120.5"),
        ("vocab_size: 5120", "vocab_size: True", "vocab_size=True"),
        ("vocab_size: 5120", "vocab_size: many", "vocab_size='many'"),
        ("vocab_size: 5120", "vocab_size: 5120\n    streaming: 1", "not known here: streaming"),
        ("use_cnn_module: False", "use_cnn_module: True", "use_cnn_module=True; only False"),
        ("use_cnn_module: False", "use_cnn_module: 0", "use_cnn_module=0; only False"),
        ("        use_cnn_module: False\n", "", "use_cnn_module=None; only False"),
        ("act_fn: 'gelu'", "act_fn: 'snakebeta'", "act_fn='snakebeta'"),
        ("t_scheduler: 'cosine'", "t_scheduler: 'linear'", "t_scheduler='linear'"),
        ("[1, 1, 1, 1]", "[1, 2, 1, 1]", "only ones"),
        ("[1, 1, 1, 1]", "[]", "no list of whole numbers"),
        ("channels: [32, 32]", "channels: [32, 32.5]", "no list of whole numbers"),
        ("MaskedDiffWithXvec", "CausalMaskedDiffWithXvec", "flow is for CausalMaskedDiffWithXvec"),
        ("!new:cosyvoice.transformer.encoder.ConformerEncoder", "", "encoder is for None"),
        ("[[1, 3, 5], [1, 3, 5], [1, 3, 5]]", "[[1, 3, 5], [1, 3, 5], [1, 3, 7]]", "resblock_dilation_sizes"),
        ("out_channels: 16", "out_channels: 15", "gives 15 channels"),
        ("center: False", "center: True", "center=True"),
        ("feat_extractor:", "other:", "no section feat_extractor"),
        ("hift: !new", "vocoder: !new", "no section hift"),
    ]:
        with subtests.test(old=old, new=new, sentence=sentence):
            with pytest.raises(ValueError, match=sentence.replace("[", r"\[")):
                read(_changed((old, new)))


def test_lines_that_are_not_understood_are_told(read, subtests):
    for old, new, sentence in [
        ("vocab_size: 5120", "vocab_size: !apply:os.system ['echo broken in']", "!apply:os.system"),
        ("vocab_size: 5120", "vocab_size: !ref <sample_rate> * 2", "sample_rate> \\* 2"),
        ("vocab_size: 5120", "vocab_size: !ref <nothing>", "refers to no number"),
        ("vocab_size: 5120", "vocab_size: &a 5120", "no number, word or list"),
        ("vocab_size: 5120", "- vocab_size", "'- vocab_size' is no setting"),
        ("vocab_size: 5120", "vocab_size: 5120\n    vocab_size: 5121", "vocab_size stands in no section, or twice"),
        ("vocab_size: 5120", "  vocab_size: 5120", "vocab_size stands in no section"),
        ("vocab_size: 5120", "\tvocab_size: 5120", "no setting"),
        ("vocab_size: 5120", "class: MaskedDiffWithXvec", "class stands"),
        ("channels: [32, 32]", "channels: [32, 32", "is not understood"),
        ("channels: [32, 32]", "channels: [32, !new:os.system]", "is not understood"),
        ("flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec", "flow: 3", "flow is no section|no section"),
        ("hift: !new", "flow: !new", "flow stands there twice"),
    ]:
        with subtests.test(old=old, new=new, sentence=sentence):
            with pytest.raises(CheckpointError, match=sentence):
                read(_changed((old, new)))


def test_files_that_are_no_config(tmp_path):
    path = tmp_path / "cosyvoice.yaml"
    with pytest.raises(CheckpointError, match="missing"):
        read_vocoder_config(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_vocoder_config(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(CheckpointError, match="1048576 bytes"):
        read_vocoder_config(path)
    path.write_bytes(b"")
    assert read_vocoder_config(path) == {}


def test_nothing_outside_of_the_sections_is_read(read):
    assert read(YAML + "train_conf:\n    - !new:os.system [x]\n  odd\n")[0].width == 32


def test_a_section_is_emptied_key_by_key():
    section = Section({"part": {"one": 1, "two": 2}}, "part")
    assert section.take("one") == 1
    with pytest.raises(ValueError, match="not known here: two"):
        section.end()
    section.unused("two", "three")
    section.end()
