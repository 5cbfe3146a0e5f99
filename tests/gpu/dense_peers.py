"""Times dense causal attention of PyTorch (cuDNN and FlashAttention backends) at the shape that `winnow bench` uses.

Prints one `--peer NAME@TOKENS=MS` argument per backend and sequence length, for the command line of `winnow bench`, so
that both are measured on the same card in the same run. One process for all lengths, because importing torch takes
long. Medians over rounds, CUDA events, inputs normal like the bench's. Exit code 0 if anything was measured.
"""
import argparse
import statistics
import sys

BACKENDS = {"cudnn_dense": "CUDNN_ATTENTION", "flash_dense": "FLASH_ATTENTION"}


def inputs(torch, seq, heads, kv_heads, dim):
    make = lambda h: torch.randn(1, h, seq, dim, device="cuda", dtype=torch.bfloat16)
    q, k, v = make(heads) * 1.5, make(kv_heads), make(kv_heads)
    return (q, *(x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v)))


def measure(torch, backend, tensors, rounds):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    times = []
    with sdpa_kernel(getattr(SDPBackend, backend)), torch.no_grad():
        for i in range(rounds + 1):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)
            end.record()
            end.synchronize()
            if i:  # the first one warms up
                times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seq", type=int, nargs="+", default=[16384, 32768, 131072])
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="at the longest length; shorter ones get more")
    args = parser.parse_args()
    try:
        import torch
    except ImportError as error:
        sys.exit(f"no peer measured: {error}")
    measured = 0
    for seq in args.seq:
        tensors = inputs(torch, seq, args.heads, args.kv_heads, args.head_dim)
        rounds = args.rounds if seq == max(args.seq) else max(args.rounds, 10)
        for name, backend in BACKENDS.items():
            try:
                ms = measure(torch, backend, tensors, rounds)
                print(f"--peer {name}@{seq}={ms:.3f}", flush=True)
                measured += 1
            except RuntimeError as error:  # a backend that this PyTorch lacks is named, not silently left out
                print(f"{name} at {seq}: not available: {str(error).splitlines()[0]}", file=sys.stderr)
    if measured == 0:
        sys.exit("no peer measured: PyTorch has neither backend here")


if __name__ == "__main__":
    main()
