"""A checkpoint folder of Step-Audio-TTS-3B in the public layout, of tiny sizes and with weights by rule."""

import io
import json
from collections import OrderedDict
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file

from models.checkpoint import network
from models.flow import FlowParams
from models.layout import LAYOUT
from models.vocoder_config import read_vocoder_config
from models.voice import Voice
from tests.golden.audio.rule import normal, weight

CONFIG = {
    "architectures": ["Step1ForCausalLM"],
    "model_type": "step1",
    "bos_token_id": 1,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_attention_groups": 2,
    "num_hidden_layers": 2,
    "max_seq_len": 32768,
    "vocab_size": 74752,
    "rms_norm_eps": 1e-05,
    "torch_dtype": "bfloat16",
}
# As the public file is written, sizes apart: tags of Python classes, references, sections that nobody here needs.
YAML = """\
# set random seed
__set_seed1: !apply:random.seed [1986]

sample_rate: 22050
spk_embed_dim: 24

llm: !new:somebody.else.LanguageModel
    layers: !ref <no_such_number>

flow: !new:cosyvoice.flow.flow.MaskedDiffWithXvec
    input_size: 32
    output_size: 16
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: 5120
    input_frame_rate: 41.67  # mixed codes
    only_mask_loss: True
    encoder: !new:cosyvoice.transformer.encoder.ConformerEncoder
        output_size: 32
        attention_heads: 4
        linear_units: 64
        num_blocks: 2
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
        input_layer: 'linear'
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        input_size: 32
        use_cnn_module: False
        macaron_style: False
    length_regulator: !new:cosyvoice.flow.length_regulator.InterpolateRegulator
        channels: 16
        sampling_ratios: [1, 1, 1, 1]
    decoder: !new:cosyvoice.flow.flow_matching.ConditionalCFM
        in_channels: 240
        n_spks: 1
        spk_emb_dim: 16
        cfm_params: !new:omegaconf.DictConfig
            content:
                sigma_min: 1e-06
                solver: 'euler'
                t_scheduler: 'cosine'
                training_cfg_rate: 0.2
                inference_cfg_rate: 0.7
                reg_loss_type: 'l1'
        estimator: !new:cosyvoice.flow.decoder.ConditionalDecoder
            in_channels: 64
            out_channels: 16
            channels: [32, 32]
            dropout: 0
            attention_head_dim: 8
            n_blocks: 1
            num_mid_blocks: 1
            num_heads: 4
            act_fn: 'gelu'

hift: !new:cosyvoice.hifigan.generator.HiFTGenerator
    in_channels: 16
    base_channels: 16
    nb_harmonics: 8
    sampling_rate: !ref <sample_rate>
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [8, 8]
    upsample_kernel_sizes: [16, 16]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 7, 11]
    resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
    source_resblock_kernel_sizes: [7, 11]
    source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: 16
        cond_channels: 12

feat_extractor: !name:matcha.utils.audio.mel_spectrogram
    n_fft: 1024
    num_mels: 16
    sampling_rate: !ref <sample_rate>
    hop_size: 256
    win_size: 1024
    fmin: 0
    fmax: 8000
    center: False
data_pipeline: [
    !ref <feat_extractor>,
]
"""
WORDS = ("hello world", "rain falls", "你好世界", "参考文本", "system human assistant")


def tokenizer_model() -> bytes:
    """A SentencePiece model with the public special ids, <audio_5> among its pieces, and NFKC normalisation."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(WORDS * 20),
        model_writer=model,
        model_type="unigram",
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="nfkc",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<|EOT|>", "<|BOT|>", "<audio_5>"],
        minloglevel=2,
    )
    return model.getvalue()


def write_speech_folder(folder: Path, seed: int = 1) -> Path:
    """Every file of the public folder that speech needs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.model").write_bytes(tokenizer_model())
    tensors = {name: tensor.bfloat16() for name, tensor in _weights("step_audio_llm", CONFIG, seed).items()}
    save_file(tensors, folder / "model-00001.safetensors")
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(tensors, "model-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for number, component in enumerate(("flow", "hift", "flow_music", "hift_music")):
        place = folder / LAYOUT[component].folder
        place.mkdir(exist_ok=True)
        (place / "cosyvoice.yaml").write_text(YAML)
        weights = _weights(component, read_vocoder_config(place / "cosyvoice.yaml"), seed + number)
        torch.save(OrderedDict(weights), place / LAYOUT[component].weights[0])
    return folder


def tiny_voice(seed: int = 1, groups: int = 4) -> Voice:
    """A voice that fits the folder."""
    params = FlowParams()
    codes = [code for group in range(groups) for code in (7 * group, 11 + group, 1024 + group, 2000 + seed, 5119)]
    mel = normal("voice.mel", (int(len(codes) / params.codes_per_second * 22050 / 256) + 3, 16), seed).half().float()
    return Voice(torch.tensor(codes), mel, normal("voice.embedding", (24,), seed), "hello world")


def _weights(component: str, config: dict, seed: int) -> dict[str, torch.Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in network(component, config).state_dict().items()}
    return {name: weight(name, shape, seed) for name, shape in shapes.items()}
