"""A small decoder whose attention is winnow.torch.sparse_attention.

Weights and the residual stream are fp32; q, k and v are bf16. Keys and values also see the token before theirs, as models
with a short convolution have it, so that one layer can answer "what came behind this key": a model without it learns the same
with two layers and many more tokens. There is no other parameter than those of dense attention: methods select by q and k.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad, rms_norm, silu

from winnow.torch import sparse_attention

_BASE = 1e6  # of rotary embeddings


def _turned(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Rotary embeddings (arXiv 2104.09864), halves as Llama has them. x: [tokens, heads, dim]."""
    half = x.shape[-1] // 2
    angles = positions[:, None] * _BASE ** (-torch.arange(half, device=x.device) / half)
    cos, sin = angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)
    a, b = x.split(half, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(torch.nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int, dim: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim = heads, kv_heads, dim
        self.query = torch.nn.Linear(width, heads * dim, bias=False)
        self.key_value = torch.nn.Linear(2 * width, 2 * kv_heads * dim, bias=False)
        self.out = torch.nn.Linear(heads * dim, width, bias=False)
        self.up, self.down = torch.nn.Linear(width, 4 * width, bias=False), torch.nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor, spec: dict[str, Any]) -> torch.Tensor:
        """x: [sequences, tokens, width]."""
        sequences, tokens, width = x.shape
        seen = rms_norm(x, (width,))
        before = pad(seen, (0, 0, 1, 0))[:, :-1]
        positions = torch.arange(tokens, device=x.device).repeat(sequences)
        q = self.query(seen).view(-1, self.heads, self.dim)
        k, v = self.key_value(torch.cat((seen, before), -1)).view(-1, 2, self.kv_heads, self.dim).unbind(1)
        q, k = _turned(rms_norm(q, (self.dim,)), positions), _turned(rms_norm(k, (self.dim,)), positions)
        lengths = torch.arange(0, (sequences + 1) * tokens, tokens, dtype=torch.int32, device=x.device)
        found = sparse_attention(*(t.bfloat16() for t in (q, k, v)), lengths, max_q=tokens, max_k=tokens, **spec)
        x = x + self.out(found.flatten(1).to(x.dtype)).view(x.shape)
        return x + self.down(silu(self.up(rms_norm(x, (width,)))))


class Model(torch.nn.Module):
    def __init__(self, vocabulary: int, layers: int, width: int, heads: int, kv_heads: int, dim: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.layers = torch.nn.ModuleList(Layer(width, heads, kv_heads, dim) for _ in range(layers))
        torch.nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def forward(self, ids: torch.Tensor, spec: dict[str, Any]) -> torch.Tensor:
        """Logits of the next word [sequences, tokens, vocabulary]. spec: what sparse_attention is to do."""
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, spec)
        return rms_norm(x, x.shape[-1:]) @ self.embedding.weight.T
