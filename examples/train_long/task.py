"""Retrieval in synthetic text: what the model is trained on.

A sequence is text of a chain in which each word is followed by one of three others. Pairs of a key and a value lie in its
first three quarters, each once; in the last quarter every key comes again, and its value has to follow. Keys and values are
drawn anew for each sequence, so that weights cannot hold them: attention has to find them.
"""

from __future__ import annotations

import random

import torch

WORDS, KEYS, VALUES = 64, 128, 64
VOCABULARY = WORDS + KEYS + VALUES
_FOLLOWERS, _STREAM = 3, 1 << 17


class Task:
    """Draws batches; the same seed draws the same."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device, self.chance = device, torch.Generator().manual_seed(seed)
        words = random.Random(0)  # the chain is that of every seed
        followers = [words.sample(range(WORDS), _FOLLOWERS) for _ in range(WORDS)]
        stream, word, words = [], 0, random.Random(seed)
        for _ in range(_STREAM):
            word = words.choice(followers[word])
            stream.append(word)
        self.stream = torch.tensor(stream)

    def batch(self, sequences: int, tokens: int, pairs: int, repeats: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Words [sequences, tokens], and where the next word is an answer: bool [sequences, tokens]."""
        begins = torch.randint(_STREAM - tokens, (sequences, 1), generator=self.chance)
        ids = self.stream[begins + torch.arange(tokens)]
        keys = self._draw(sequences, KEYS, pairs) + WORDS
        values = torch.randint(VALUES, (sequences, pairs), generator=self.chance) + WORDS + KEYS
        given = 2 * repeats * self._draw(sequences, 3 * tokens // (8 * repeats), pairs)
        asked = 3 * tokens // 4 + 2 * self._draw(sequences, tokens // 8, pairs)
        for place in [given + 2 * i for i in range(repeats)] + [asked]:
            ids.scatter_(1, place, keys).scatter_(1, place + 1, values)
        is_asked = torch.zeros(ids.shape, dtype=torch.bool).scatter_(1, asked, True)
        return ids.to(self.device), is_asked.to(self.device)

    def _draw(self, rows: int, of: int, count: int) -> torch.Tensor:
        """`count` different numbers below `of` in each row."""
        return torch.rand(rows, of, generator=self.chance).topk(count).indices
