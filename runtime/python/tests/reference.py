"""InfLLM-V2 and dense attention in fp64, written down from the formulas (arXiv 2509.24663), not from the kernels.

Tensors as the package takes them, of one sequence: q [tokens, heads, dim], k and v [keys, kv_heads, dim]. Of a sequence
with more keys than queries, the queries are the last tokens.
"""

import math

import numpy as np


def summaries(keys, window, stride):
    """Means over whole windows, rounded to the keys' type as the kernels round them: [rows, kv_heads, dim]."""
    count = 0 if len(keys) < window else (len(keys) - window) // stride + 1
    means = [keys[j * stride : j * stride + window].astype(np.float64).mean(0) for j in range(count)]
    return np.array(means).reshape(count, *keys.shape[1:]).astype(keys.dtype).astype(np.float64)


def block_scores(q, k, *, block, window, stride, coarse_window, coarse_stride, scale):
    """The pooled score of each block, -inf where no row is visible: [kv_heads, tokens, blocks]."""
    tokens, heads, _ = q.shape
    kv_heads, group = k.shape[1], heads // k.shape[1]
    fine, coarse = summaries(k, window, stride), summaries(k, coarse_window, coarse_stride)
    history = len(k) - tokens
    scores = np.full((kv_heads, tokens, math.ceil(len(k) / block)), -np.inf)
    for t in range(tokens):
        position = history + t
        seen = max(0, min(len(fine), (position + 1 - window) // stride + 1))
        seen_coarse = max(0, min(len(coarse), (position + 1 - coarse_window) // coarse_stride + 1))
        for g in range(kv_heads):
            row_scores = np.zeros(len(fine))
            for h in range(g * group, (g + 1) * group):
                query = q[t, h].astype(np.float64)
                if seen_coarse:
                    normaliser = np.log(np.exp(coarse[:seen_coarse, g] @ query * scale).sum())
                    row_scores[:seen] += np.exp(fine[:seen, g] @ query * scale - normaliser)
            for b in range(scores.shape[2]):  # rows whose window overlaps the block
                rows = [j for j in range(len(fine)) if j * stride < (b + 1) * block and j * stride + window > b * block]
                if rows:
                    scores[g, t, b] = max(row_scores[j] for j in rows)
    return scores


def select(scores, *, history, block, topk, init, local):
    """Ascending ids, -1 behind the last: [kv_heads, tokens, topk]; ties go to the smaller block."""
    ids = np.full((*scores.shape[:2], topk), -1, np.int32)
    for g, t in np.ndindex(*scores.shape[:2]):
        own = (history + t) // block
        forced = {b for b in range(own + 1) if b < init or own - local < b}
        others = sorted((b for b in range(own + 1) if b not in forced), key=lambda b: (-scores[g, t, b], b))
        chosen = sorted([*forced, *others[: topk - len(forced)]])[:topk]
        ids[g, t, : len(chosen)] = chosen
    return ids


def attend(q, k, v, scale, ids=None, block=None):
    """Softmax over the keys of the selected blocks (all, where ids is None): out and lse [heads, tokens], in fp64."""
    tokens, heads, _ = q.shape
    group, history = heads // k.shape[1], len(k) - tokens
    out, lse = np.zeros((tokens, heads, v.shape[2])), np.full((heads, tokens), -np.inf)
    for t, h in np.ndindex(tokens, heads):
        allowed = np.arange(len(k)) <= history + t
        if ids is not None:
            allowed &= np.isin(np.arange(len(k)) // block, ids[h // group, t])
        if not allowed.any():
            continue
        logits = k[allowed, h // group].astype(np.float64) @ q[t, h].astype(np.float64) * scale
        lse[h, t] = logits.max() + np.log(np.exp(logits - logits.max()).sum())
        out[t, h] = np.exp(logits - lse[h, t]) @ v[allowed, h // group].astype(np.float64)
    return out, lse


def gradients(q, k, v, dout, scale, ids, block):
    """Of the sum of dout * out by q, k and v, in fp64 (arXiv 2205.14135, algorithm 4)."""
    tokens, heads, _ = q.shape
    group, history = heads // k.shape[1], len(k) - tokens
    q, k, v, dout = (tensor.astype(np.float64) for tensor in (q, k, v, dout))
    dq, dk, dv = (np.zeros_like(tensor) for tensor in (q, k, v))
    for t, h in np.ndindex(tokens, heads):
        g = h // group
        seen = np.flatnonzero((np.arange(len(k)) <= history + t) & np.isin(np.arange(len(k)) // block, ids[g, t]))
        if not len(seen):
            continue
        logits = k[seen, g] @ q[t, h] * scale
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        changes = v[seen, g] @ dout[t, h]
        steps = weights * (changes - weights @ changes) * scale
        dq[t, h] += steps @ k[seen, g]
        dk[seen, g] += np.outer(steps, q[t, h])
        dv[seen, g] += np.outer(weights, dout[t, h])
    return dq, dk, dv
