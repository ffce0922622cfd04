"""The text tower of the Chinese CLIP, the smaller of Step-Video's two text encoders.

It is a plain BERT (hfl/chinese-roberta-wwm-ext-large): transformers' BertModel without a pooler, which the public
file does not have. Keys are those of the file: `bert.*`.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from models.clip_config import ClipParams


class ClipText(nn.Module):
    """Token ids -> last hidden states.

    The transformer attends to all 77 positions, padding included, as officially; inside BERT padding is masked.
    """

    def __init__(self, params: ClipParams) -> None:
        super().__init__()
        self.params = params
        sizes = {**asdict(params), "pad_token_id": 0, "hidden_act": "gelu"}
        config = BertConfig.from_dict(sizes, attn_implementation="sdpa")
        self.bert = BertModel(config, add_pooling_layer=False)
        # BertModel keeps these two as buffers outside the checkpoint. `forward` passes them instead, so that a module
        # built on the meta device has nothing left there once its parameters are assigned.
        for name in ("position_ids", "token_type_ids"):
            self.bert.embeddings.register_buffer(name, None, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids (b, 77) int64, attention_mask (b, 77) of 0 and 1 -> (b, 77, d) in the weights' dtype."""
        return self.bert(
            input_ids,
            attention_mask=attention_mask,
            position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None],
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state
