"""The sizes of the CLIP text tower, without importing transformers, which takes seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.config_values import divides, epsilon, fixed, layer_count, whole

CLIP_TOKENS = 77  # that the tower reads of a text, padding included


@dataclass(frozen=True)
class ClipParams:
    """The architecture, by the names of BertConfig. The defaults are public clip_text_encoder/config.json.

    Nothing else of a config file is passed on: transformers would take the name of an attention implementation from it
    and fetch that code from the hub.
    """

    vocab_size: int = 47020
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ClipParams":
        """From a clip_text_encoder/config.json. ValueError for an architecture that ClipText does not compute."""
        fixed(config, {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"})
        fixed(config, {"is_decoder": False, "add_cross_attention": False, "pad_token_id": 0})
        params = cls(
            vocab_size=whole(config, "vocab_size"),
            hidden_size=whole(config, "hidden_size"),
            num_hidden_layers=layer_count(config, "num_hidden_layers"),
            num_attention_heads=whole(config, "num_attention_heads"),
            intermediate_size=whole(config, "intermediate_size"),
            max_position_embeddings=whole(config, "max_position_embeddings"),
            type_vocab_size=whole(config, "type_vocab_size"),
            layer_norm_eps=epsilon(config, "layer_norm_eps"),
        )
        heads, width = params.num_attention_heads, params.hidden_size
        divides(heads, width, f"hidden_size {width} by {heads} heads")
        return params
