"""Times gradients of PyTorch's dense causal attention: scaled_dot_product_attention, cuDNN and FlashAttention backends.

One sequence of each length, as `winnow bench backward` has it, in its two regimes: paced launches come after --idle
milliseconds of rest, the others back to back. Each backend with grouped heads, and with keys and values repeated for
every query head, which some versions serve better. Prints a JSON line {"name", "seq", "ms", "paced_ms", "both_ms",
"both_paced_ms"} for each (medians; both: attention and gradients), and one named dense_fastest for the fastest;
`winnow bench backward dense --peer FILE` shows them beside its own rows. The backends' defaults, which may add in any
order. What PyTorch refuses is named on stderr. Written for PyTorch 2.11. Exit code 0 if anything was measured.
"""
import argparse
import json
import statistics
import sys
import time

BACKENDS = {"cudnn_dense": "CUDNN_ATTENTION", "flash_dense": "FLASH_ATTENTION"}


def numbers(text):
    return [int(piece) for piece in text.split(",")]


def make_inputs(torch, seq, args, repeated):
    """q, k, v that want gradients, and the gradient of the output."""
    def normal(heads):
        return torch.randn(1, heads, seq, args.head_dim, device="cuda", dtype=torch.bfloat16)

    q, k, v, dout = normal(args.heads) * 1.5, normal(args.kv_heads), normal(args.kv_heads), normal(args.heads)
    if repeated:
        k, v = (x.repeat_interleave(args.heads // args.kv_heads, dim=1) for x in (k, v))
    return [x.requires_grad_() for x in (q, k, v)], dout


def timed(torch, launch, rounds, idle):
    """The median of `rounds` calls in milliseconds, each after `idle` seconds of rest."""
    times = []
    for i in range(rounds + 1):
        if idle:
            torch.cuda.synchronize()
            time.sleep(idle)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        launch()
        end.record()
        end.synchronize()
        if i:  # the first one warms up
            times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measure(torch, backend, tensors, dout, grouped, args):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    with sdpa_kernel(getattr(SDPBackend, backend)):
        def attend():
            return scaled_dot_product_attention(*tensors, is_causal=True, enable_gqa=grouped)

        out = attend()

        def gradients():
            torch.autograd.grad(out, tensors, dout, retain_graph=True)

        def both():
            torch.autograd.grad(attend(), tensors, dout)

        idle = args.idle / 1000
        return {"ms": timed(torch, gradients, args.rounds, 0), "paced_ms": timed(torch, gradients, args.rounds, idle),
                "both_ms": timed(torch, both, args.rounds, 0), "both_paced_ms": timed(torch, both, args.rounds, idle)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seq", type=numbers, default=[16384, 32768], help="separated by commas")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--idle", type=float, default=300, help="milliseconds")
    args = parser.parse_args(arguments)
    try:
        import torch
    except ImportError as error:
        sys.exit(f"no peer measured: {error}")
    if not torch.cuda.is_available():
        sys.exit("no peer measured: PyTorch sees no GPU")
    measured = 0
    for seq in args.seq:
        found = []
        for name, backend in BACKENDS.items():
            for repeated in (False, True):
                label = name + "_repeated" * repeated
                try:
                    tensors, dout = make_inputs(torch, seq, args, repeated)
                    times = measure(torch, backend, tensors, dout, not repeated, args)
                except RuntimeError as error:  # named, not silently left out
                    print(f"{label} at {seq}: not available: {str(error).splitlines()[0]}", file=sys.stderr)
                    continue
                found.append({"name": label, "seq": seq, **{key: round(ms, 3) for key, ms in times.items()}})
                print(json.dumps(found[-1]), flush=True)
        if found:
            measured += 1
            print(json.dumps({**min(found, key=lambda line: line["ms"]), "name": "dense_fastest"}), flush=True)
    if measured == 0:
        sys.exit("no peer measured: PyTorch has neither backend here")


if __name__ == "__main__":
    main()
