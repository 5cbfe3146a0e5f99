"""A small problem, and caches of pages: what the tests of winnow.torch share."""

import torch

from winnow.torch import attention_with_kvcache

METHOD = "infllm_v2"
SPEC = dict(block=16, topk=4, params=dict(window=8, stride=4, coarse_window=32, coarse_stride=16, local=2))
TOKENS = 96


def tensors(dtype=torch.bfloat16, tokens=TOKENS):
    torch.manual_seed(3)
    return (torch.randn(tokens, 4, 64, dtype=dtype), torch.randn(tokens, 2, 64, dtype=dtype),
            torch.randn(tokens, 2, 64, dtype=dtype), torch.tensor([0, tokens], dtype=torch.int32))


def paged(k, v, page=32):
    count = len(k) // page
    order = torch.arange(count).flip(0)
    side_by_side = torch.cat((k, v), -1).view(count, page, 2, 128)
    pages = side_by_side[order.argsort()].contiguous()
    return (*pages.split(64, -1), order.to(torch.int32)[None])


def kept_rows(layout, pages, page=32):
    return [torch.zeros(pages, page // stride, 2, 64, dtype=torch.bfloat16) for _, stride in layout]


class Batch:
    """Two sequences of 40 and 56 keys whose last 3 and 2 are new, in pages of 16 that lie in any order, between the rows of
    tokens outside all sequences; what a cache holds in places that are not written is -7."""

    def __init__(self, dtype=torch.bfloat16, begin=(0, 0)):
        torch.manual_seed(4)
        self.lengths, self.new = (40, 56), (3, 2)
        tokens = sum(self.new) + 2
        self.q, self.k, self.v = (torch.randn(tokens, heads, 64).bfloat16() for heads in (4, 2, 2))
        pages = torch.tensor([[6, 2, 9, 0], [1, 8, 3, 5]], dtype=torch.int32)
        self.held, self.written = (tuple(torch.full((10, 16, 2, 64), -7.0).to(dtype) for _ in range(2)) for _ in range(2))
        self.slots = torch.full((tokens,), -1)
        for s, (length, new, first) in enumerate(zip(self.lengths, self.new, begin)):
            for i in range(length):
                page, place = int(pages[s, (first + i) // 16]), (first + i) % 16
                row = i - (length - new) + (self.new[0] if s else 0)
                for held, written, tensor in zip(self.held, self.written, (self.k, self.v)):
                    old = torch.randn(2, 64).bfloat16()
                    written[page, place] = (tensor[row] if i >= length - new else old).to(dtype)
                    if i < length - new:
                        held[page, place] = written[page, place]
                if i >= length - new:
                    self.slots[row] = page * 16 + place
        self.named = dict(cu_seqlens_q=torch.tensor([0, 3, 5], dtype=torch.int32), page_table=pages, method=METHOD, **SPEC,
                          cache_seqlens=torch.tensor(self.lengths, dtype=torch.int32),
                          k_begin=torch.tensor(begin, dtype=torch.int32) if any(begin) else None)

    def step(self, caches, **more):
        out = torch.zeros_like(self.q)
        return attention_with_kvcache(self.q, *caches, out=out, **self.named, **more)
