"""Times a transformers model of MiniCPM4.1's shape with winnow.hf beside the same model with sdpa, in one process.

A few LlamaForCausalLM layers (hidden 4096, 32 heads, 2 KV heads, intermediate 16384) with random weights in bf16 and the
published sparse_config. Three jobs:

  prefill  the whole model over one prompt. Each random token stands --overlap times in a row, so that as many neighbours
           select about alike: 1 is the worst case. Rounds of both implementations alternate; medians.
  decode   one step of --batch sequences over a cache of --keys random keys each, as a captured CUDA graph: StaticCache
           with sdpa, winnow.hf.Cache with winnow, and sdpa over the cached keys without a mask, which is the least
           that dense attention takes, though transformers does not do it.
  train    loss and gradients of one prompt, as prefill has it, by --train-layers layers; peak memory may not be higher.

Prints one table: times, how many times as fast, the bar where there is one, peak memory. Needs torch 2.11, transformers
5.17 and the package winnow; with one H200 prefill and decode take about three minutes, compiling included.
  python tests/gpu/model_hf.py
  python tests/gpu/model_hf.py --device cpu --layers 1 --train-layers 1 --tokens 512 --keys 512 --batch 2    whether it runs at all
Exit code 0 if every bar was met or none applied.
"""
import argparse
import statistics
import sys
import time

BARS = {("prefill", 32768): 1.25, ("prefill", 131072): 2.4, ("decode", 131072): 1.6, ("train", 32768): 1.25,
        ("train", 131072): 2.5}
SPARSE = dict(kernel_size=32, kernel_stride=16, init_blocks=1, block_size=64, window_size=2048, topk=64, use_nope=False,
              dense_len=8192)
GIB = 2**30


def numbers(text):
    return [int(piece) for piece in text.split(",")]


def make_model(torch, args, layers):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=args.vocabulary, hidden_size=4096, intermediate_size=16384, num_hidden_layers=layers,
                         num_attention_heads=32, num_key_value_heads=2, head_dim=128, sparse_config=SPARSE,
                         max_position_embeddings=max(*args.tokens, args.keys) + 256)
    torch.manual_seed(1)
    with torch.device(args.device):
        return LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval()


def register_sdpa_without_mask():
    """Attention over all keys of the cache by the kernels for grouped heads, which take no mask."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attention(module, query, key, value, attention_mask, **more):
        return sdpa_attention_forward(module, query, key, value, None, **more)

    AttentionInterface.register("sdpa_no_mask", attention)


class Clock:
    """Milliseconds of one call, and its peak memory in GiB (0 on the CPU)."""

    def __init__(self, torch, device):
        self.torch, self.has_gpu = torch, device != "cpu"

    def __call__(self, call):
        if not self.has_gpu:
            begin = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - begin), 0.0
        cuda = self.torch.cuda
        cuda.reset_peak_memory_stats()
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end), cuda.max_memory_allocated() / GIB


def alternate(clock, calls, rounds):
    """The median of each call and its peak memory, the calls by turns; the first turn warms up and sees the peak."""
    times, peaks = {name: [] for name in calls}, {}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            ms, peak = clock(call)
            peaks[name] = max(peak, peaks.get(name, 0.0))
            if turn:
                times[name].append(ms)
    return {name: (statistics.median(times[name]), peaks[name]) for name in calls}


def over_prompts(torch, model, clock, step, tokens, args):
    """Rows of the table: sdpa, then winnow with each overlap. step: what is done with a prompt; gives what is to be finite."""
    calls = {}

    def call_of(implementation, overlap):
        distinct = torch.randint(1, args.vocabulary, (1, -(-tokens // overlap)), device=args.device)
        ids = distinct.repeat_interleave(overlap, 1)[:, :tokens]

        def call():
            model.set_attn_implementation(implementation)
            if not step(model, ids).isfinite().all():
                sys.exit(f"{implementation} gives numbers that are not finite")

        return call

    calls["sdpa"] = call_of("sdpa", 1)
    for overlap in args.overlap:
        calls[f"winnow, overlap {overlap}"] = call_of("winnow", overlap)
    return alternate(clock, calls, args.rounds)


def prefill_step(model, ids):
    return model(input_ids=ids, use_cache=False, logits_to_keep=1).logits


def train_step(model, ids, part=8192):
    """Loss and gradients. Logits of a part of the tokens at a time, and again for their gradients: all take 38 GB in fp32."""
    from torch.nn.functional import cross_entropy
    from torch.utils.checkpoint import checkpoint

    def loss_of(states, words):
        return cross_entropy(model.lm_head(states).float(), words, reduction="sum")

    model.zero_grad()
    states = model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    loss = sum(checkpoint(loss_of, *piece, use_reentrant=False) for piece in zip(states[:-1].split(part), ids[0, 1:].split(part)))
    loss.backward()
    return loss


def decode(torch, model, clock, args):
    from transformers import StaticCache

    import winnow.hf

    capacity = args.keys + 256  # each step that runs is one token more
    caches = {"sdpa": StaticCache(model.config, capacity), "winnow": winnow.hf.Cache(model.config, capacity)}
    caches["sdpa_no_mask"] = caches["sdpa"]
    shape = (args.batch, 2, args.keys, 128)
    for layer in range(args.layers):
        keys, values = (torch.randn(shape, dtype=torch.bfloat16, device=args.device) for _ in range(2))
        for name in ("sdpa", "winnow"):
            caches[name].update(keys, values, layer)
    calls, peaks = {}, {}
    for name, cache in caches.items():
        calls[name], peaks[name] = step_of(torch, model, clock, cache, name, args)
    return {name: (ms, peaks[name]) for name, (ms, _) in alternate(clock, calls, 5 * args.rounds).items()}


def step_of(torch, model, clock, cache, implementation, args):
    """One step, on a GPU as the replay of a graph; and the peak memory of the eager one before it."""
    ids = torch.ones(args.batch, 1, dtype=torch.long, device=args.device)

    def step():
        model.set_attn_implementation(implementation)
        return model(input_ids=ids, past_key_values=cache).logits

    step()  # compiles, loads, and makes the rows of the keys that were put in
    _, peak = clock(step)
    if args.device == "cpu":
        return step, peak
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = step()
    graph.replay()
    if not logits.isfinite().all():
        sys.exit(f"{implementation} gives logits that are not finite")
    return graph.replay, peak


def show(job, size, found):
    """Prints the rows of one job; whether its bar was met."""
    dense, dense_peak = found["sdpa"]
    bar, is_met = BARS.get((job, size)), True
    for name, (ms, peak) in found.items():
        ratio = dense / ms
        words = ""
        if bar and name.startswith("winnow"):
            here = ratio >= bar and (job != "train" or peak <= dense_peak)
            is_met = is_met and here
            words = f"bar {bar}: {'met' if here else 'MISSED'}"
        print(f"{job:8s} {size:7d}  {name:20s} {ms:10.3f} ms {ratio:7.2f} x {peak:8.2f} GiB  {words}", flush=True)
    return is_met


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--jobs", type=lambda text: text.split(","), default=["prefill", "decode", "train"],
                        help="separated by commas")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--train-layers", type=int, default=2)
    parser.add_argument("--tokens", type=numbers, default=[32768, 131072], help="of prompts, separated by commas")
    parser.add_argument("--overlap", type=numbers, default=[1, 32], help="separated by commas")
    parser.add_argument("--keys", type=int, default=131072, help="in the cache of each sequence at decode")
    parser.add_argument("--batch", type=int, default=8, help="sequences at decode")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, default=73448)
    args = parser.parse_args(arguments)
    unknown = set(args.jobs) - {"prefill", "decode", "train"}
    if unknown:
        parser.error(f"--jobs: {', '.join(sorted(unknown))} is none of prefill, decode and train")
    try:
        import torch
        import winnow.hf
    except ImportError as error:
        sys.exit(f"nothing measured: {error}")
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("nothing measured: PyTorch sees no GPU")
    winnow.hf.register("infllm_v2")
    register_sdpa_without_mask()
    clock, is_met = Clock(torch, args.device), True
    if {"prefill", "decode"} & set(args.jobs):
        with torch.no_grad():
            model = make_model(torch, args, args.layers)
            for tokens in args.tokens if "prefill" in args.jobs else ():
                is_met = show("prefill", tokens, over_prompts(torch, model, clock, prefill_step, tokens, args)) and is_met
            if "decode" in args.jobs:
                is_met = show("decode", args.keys, decode(torch, model, clock, args)) and is_met
        del model
    if "train" in args.jobs:
        model = make_model(torch, args, args.train_layers)
        for tokens in args.tokens:
            is_met = show("train", tokens, over_prompts(torch, model, clock, train_step, tokens, args)) and is_met
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
