"""Times dense decode of PyTorch: scaled_dot_product_attention with grouped heads, cuDNN and FlashAttention backends.

For each batch and length one CUDA graph of launches over disjoint sets of queries, keys and values in turn, as many as
read 256 MB together, so that no launch finds its keys in L2: what `winnow bench decode` does. Prints a JSON line
{"name", "batch", "seq", "queries", "us", "fastest_us", "sets"} for each backend, and one named dense_fastest for the
faster of them; `winnow bench decode --peer FILE` shows them beside its own rows. One query token needs no mask; more
take the lower-right corner of a causal one, which only some backends serve. A backend or a size that PyTorch refuses is
named on stderr. Written for PyTorch 2.11. Exit code 0 if anything was measured.
"""
import argparse
import json
import math
import statistics
import sys

BACKENDS = {"cudnn_dense": "CUDNN_ATTENTION", "flash_dense": "FLASH_ATTENTION"}
COLD_BYTES = 256e6
MOST_SETS = 256
LEAST_LAUNCHES = 16


def numbers(text):
    return [int(piece) for piece in text.split(",")]


def sets_for(batch, seq, kv_heads, dim, free_bytes):
    """How many sets of keys and values in bf16: enough for a cold L2, as many as fit, at least one."""
    each = 2 * batch * seq * kv_heads * dim * 2
    return max(1, min(MOST_SETS, math.ceil(COLD_BYTES / each), int(0.8 * free_bytes / each)))


def make_sets(torch, count, batch, seq, queries, args):
    def normal(heads, tokens):
        return torch.randn(batch, heads, tokens, args.head_dim, device="cuda", dtype=torch.bfloat16)

    return [(normal(args.heads, queries) * 1.5, normal(args.kv_heads, seq), normal(args.kv_heads, seq))
            for _ in range(count)]


def measure(torch, backend, sets, args):
    """Microseconds per launch of every replay."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.bias import causal_lower_right
    from torch.nn.functional import scaled_dot_product_attention

    queries, seq = sets[0][0].shape[2], sets[0][1].shape[2]
    mask = causal_lower_right(queries, seq) if queries > 1 else None
    launches = len(sets) * math.ceil(LEAST_LAUNCHES / len(sets))

    def launch(index):
        return scaled_dot_product_attention(*sets[index % len(sets)], attn_mask=mask, enable_gqa=True)

    with sdpa_kernel(getattr(SDPBackend, backend)), torch.no_grad():
        side = torch.cuda.Stream()  # warms up where it may be captured
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                launch(0)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for i in range(launches):
                launch(i)
    times = []
    for i in range(args.rounds + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i:  # the first one warms up
            times.append(1000 * begin.elapsed_time(end) / launches)
    return times


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=numbers, default=[1, 4, 16, 64], help="separated by commas")
    parser.add_argument("--seq", type=numbers, default=[32768, 131072], help="separated by commas")
    parser.add_argument("--queries", type=numbers, default=[1], help="separated by commas")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args(arguments)
    try:
        import torch
    except ImportError as error:
        sys.exit(f"no peer measured: {error}")
    if not torch.cuda.is_available():
        sys.exit("no peer measured: PyTorch sees no GPU")
    measured = 0
    for seq, batch, queries in ((s, b, q) for s in args.seq for b in args.batch for q in args.queries):
        torch.cuda.empty_cache()
        count = sets_for(batch, seq, args.kv_heads, args.head_dim, torch.cuda.mem_get_info()[0])
        shape = {"batch": batch, "seq": seq, "queries": queries}
        found = []
        try:
            sets = make_sets(torch, count, batch, seq, queries, args)
        except RuntimeError as error:
            print(f"{shape}: left out: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        for name, backend in BACKENDS.items():
            try:
                times = measure(torch, backend, sets, args)
            except RuntimeError as error:  # a backend that this PyTorch lacks is named, not silently left out
                print(f"{name}, {shape}: not available: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            found.append({"name": name, **shape, "us": round(statistics.median(times), 2),
                          "fastest_us": round(min(times), 2), "sets": count})
            print(json.dumps(found[-1]), flush=True)
        if found:
            measured += 1
            print(json.dumps({**min(found, key=lambda line: line["us"]), "name": "dense_fastest"}), flush=True)
        del sets
    if measured == 0:
        sys.exit("no peer measured: PyTorch has neither backend here")


if __name__ == "__main__":
    main()
