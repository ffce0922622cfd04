"""The text tower of the Chinese CLIP that Step-Video reads prompts with besides its language model.

It is a plain BERT (hfl/chinese-roberta-wwm-ext-large): transformers' BertModel without a pooler, which the public
file does not have. Keys are those of the file: `bert.*`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

CLIP_TOKENS = 77


class ClipText(nn.Module):
    """(input_ids (b, 77) int64, attention_mask (b, 77) 0/1) -> last hidden state (b, 77, d).

    All 77 positions are returned and used by the transformer, padding included; padding is masked inside.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = BertConfig.from_dict(config, attn_implementation="sdpa")
        self.bert = BertModel(self.config, add_pooling_layer=False)
        # BertModel keeps these two as buffers outside the checkpoint; `forward` gives them, so that a module built on
        # the meta device has nothing left there once its parameters are assigned.
        self.bert.embeddings.position_ids = None
        self.bert.embeddings.token_type_ids = None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.bert(
            input_ids,
            attention_mask=attention_mask,
            position_ids=torch.arange(input_ids.shape[1], device=input_ids.device)[None],
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state
