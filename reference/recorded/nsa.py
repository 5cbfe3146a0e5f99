"""Answers of the selection branch of NSA (arXiv 2502.11089) in fp64, read straight off the paper: compressed keys as means,
equation 8 (probabilities), equation 9 (block scores, its two sums as loops), equation 10 (sum over the heads of a group), then
equation 11 (top-n, ties to the smaller block) with the first block and the last two always in. Needs NumPy:
    python3 nsa.py        # writes nsa/recorded.json and a folder per case beside it
It shares inputs.py with the other recorded cases and nothing with Winnow's own reference."""
import json
import os

import numpy as np

import inputs

HEADS, GROUPS, DIM = 32, 2, 128
CASES = [  # l: tokens of a compressed key, d: from one to the next, l': tokens of a block to select, n: blocks selected
    {"name": "n1500", "tokens": 1500, "seed": 21, "l": 32, "d": 16, "block": 64, "n": 8},
    {"name": "n2048", "tokens": 2048, "seed": 22, "l": 64, "d": 16, "block": 64, "n": 9},
]
INIT, LOCAL = 1, 2
Q_FACTOR = 8.0  # probabilities differ by enough that wrong weights are wrong picks, not near ties


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def probabilities(q, compressed, t, l, d):
    """Equation 8 for one head and token: over the compressed keys that lie wholly in its past; the others have none."""
    p = np.zeros(len(compressed))
    seen = 0 if t + 1 < l else (t + 1 - l) // d + 1
    if seen:
        p[:seen] = softmax(compressed[:seen] @ q / np.sqrt(DIM))
    return p


def block_scores(p, blocks, l, d, block):
    """Equation 9: p_slc[j] = sum over m < l'/d and n < l/d of p_cmp[(l'/d) j + m - n]."""
    scores = np.zeros(blocks)
    for j in range(blocks):
        for m in range(block // d):
            for n in range(l // d):
                i = block // d * j + m - n
                if 0 <= i < len(p):
                    scores[j] += p[i]
    return scores


def answer(case):
    tokens, l, d, block, n = (case[key] for key in ("tokens", "l", "d", "block", "n"))
    q, k, v = (x.astype(np.float64) for x in inputs.make(tokens, case["seed"], Q_FACTOR))
    positions = np.array(sorted({0, 31, 63, 64, 127, 128, 191, *range(205, tokens, 41), tokens - 1}), np.int32)
    count = (tokens - l) // d + 1
    compressed = np.stack([k[d * i:d * i + l].mean(0) for i in range(count)])  # [count, groups, dim]
    ids = np.full((GROUPS, len(positions), n), -1, np.int32)
    pooled = np.full((GROUPS, len(positions), (tokens + block - 1) // block), -np.inf, np.float32)
    out = np.zeros((len(positions), HEADS, DIM), np.float16)
    lse = np.zeros((HEADS, len(positions)), np.float32)
    for at, t in enumerate(positions):
        own = t // block
        for group in range(GROUPS):
            heads = range(group * HEADS // GROUPS, (group + 1) * HEADS // GROUPS)
            scores = sum(block_scores(probabilities(q[t, h], compressed[:, group], t, l, d), own + 1, l, d, block)
                         for h in heads)
            forced = [b < INIT or b > own - LOCAL for b in range(own + 1)]
            chosen = sorted(sorted(range(own + 1), key=lambda b: (not forced[b], 0 if forced[b] else -scores[b], b))[:n])
            ids[group, at, :len(chosen)] = chosen
            pooled[group, at, :own + 1] = np.where(forced, np.inf, scores)
            keys = np.array([i for b in chosen for i in range(b * block, (b + 1) * block) if i <= t])
            for h in heads:
                logits = k[keys, group] @ q[t, h] / np.sqrt(DIM)
                lse[h, at] = logits.max() + np.log(np.exp(logits - logits.max()).sum())
                out[at, h] = softmax(logits) @ v[keys, group]
    return {"tokens": positions, "ids": ids, "pooled": pooled, "out": out, "lse": lse}


def checksum(x):
    words = (x.ravel().view(np.uint32) >> 16).astype(np.uint64)
    return str((words * np.arange(1, len(words) + 1, dtype=np.uint64)).sum(dtype=np.uint64))


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nsa")
    table = []
    for case in CASES:
        os.makedirs(os.path.join(folder, case["name"]), exist_ok=True)
        for name, values in answer(case).items():
            np.save(os.path.join(folder, case["name"], name + ".npy"), values)
        table.append({"name": case["name"], "tokens": case["tokens"], "seed": case["seed"], "topk": case["n"], "init": INIT,
                      "local": LOCAL, "q_factor": Q_FACTOR,
                      "set": {"window": str(case["l"]), "stride": str(case["d"])},
                      "checksums": [checksum(x) for x in inputs.make(case["tokens"], case["seed"], Q_FACTOR)]})
    with open(os.path.join(folder, "recorded.json"), "w") as file:
        file.write("[\n" + ",\n".join(map(json.dumps, table)) + "\n]\n")


if __name__ == "__main__":
    main()
