"""Times dense causal attention of PyTorch (cuDNN and FlashAttention backends) at the shape that `winnow bench` uses.

Prints one `--peer NAME=MS` argument per backend and sequence length, for the command line of `winnow bench`, so that
both are measured on the same card in the same run. Medians over rounds, CUDA events, inputs normal like the bench's.
"""
import argparse
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"cudnn_dense": SDPBackend.CUDNN_ATTENTION, "flash_dense": SDPBackend.FLASH_ATTENTION}


def measure(backend, seq, heads, kv_heads, dim, rounds):
    make = lambda h: torch.randn(1, h, seq, dim, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(heads) * 1.5, make(kv_heads), make(kv_heads)
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    times = []
    with sdpa_kernel(backend), torch.no_grad():
        for i in range(rounds + 1):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            end.record()
            end.synchronize()
            if i:  # the first one warms up
                times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seq", type=int, default=131072)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for name, backend in BACKENDS.items():
        try:
            ms = measure(backend, args.seq, args.heads, args.kv_heads, args.head_dim, args.rounds)
            print(f"--peer {name}={ms:.3f}")
        except RuntimeError as error:  # a backend that this PyTorch lacks is named, not silently left out
            print(f"{name}: not available: {str(error).splitlines()[0]}", file=sys.stderr)


if __name__ == "__main__":
    main()
