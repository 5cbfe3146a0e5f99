# A tuned file as a sweep would write it, invented from a seed: keys of two phases and several shapes, candidates with
# times that follow a made-up law, pruned and rejected ones, texts that try to break out of a page. No GPU is meant.
import json
import math
import random

DEVICE, ARCH = "test device", "test_arch"
# Tunables and their values besides the default, with the factor that each value puts on the time.
TUNABLES = {
    "attend": {
        "attend_warps": {4: 1.06, 8: 1.0, 12: 0.975},
        "attend_stages": {2: 1.05, 3: 1.0, 4: 0.97, 5: 0.96, 6: 0.955},
        "attend_keys": {32: 1.04, 64: 1.0, 128: 0.985},
        "attend_split": {1: 1.0, 2: 0.94},
        "attend_softmax": {1: 1.0, 2: 0.965},
        "attend_fma": {1: 1.0, 2: 0.985, 3: 1.02},
    },
    "select": {
        "score_tokens": {8: 1.11, 16: 1.0, 32: 0.93, 64: 0.95},
        "score_chunk_mib": {64: 1.03, 256: 1.0, 1024: 0.99},
        "score_fold": {1: 1.0, 2: 0.98},
        "score_poly": {1: 1.0, 4: 0.975, 8: 0.985},
    },
}
HOSTILE = "</script><script>throw 1</script><!-- <b>\"bold\"</b> & {{title}}"


def spec(head_dim, group, block, topk):
    return (f"heads={8 * group} kv_heads=8 head_dim={head_dim} value_dim={head_dim} block={block} topk={topk} dtype=bf16 "
            f"scale={head_dim ** -0.5:.6g} set.init=1 set.local={topk // 3}")


def key(phase, method, head_dim, group, topk, tokens, overlap, device=DEVICE):
    return {"schema": 1, "phase": phase, "method": method, "spec": spec(head_dim, group, 64, topk), "tokens": tokens,
            "overlap": overlap, "arch": ARCH, "device": device}


def keys(count):
    """`count` keys, in a fixed order."""
    shapes = [(method, d, g, topk, tokens)
              for d in (128, 64) for topk in (96, 16, 32, 64) for g in (16, 4) for method in ("method_a", "method_b")
              for tokens in (16384, 131072, 2048, 1048576)]
    listed = []
    for method, d, g, topk, tokens in shapes:
        listed.append(key("select", method, d, g, topk, tokens, 0))
        listed += [key("attend", method, d, g, topk, tokens, overlap) for overlap in (32, 8, 1, 128)]
    return listed[:count]


def words(config):
    return " ".join(f"{name}={value}" for name, value in config.items()) or "default"


def configs(phase, limit, rng):
    """The default, one change each, then pairs up to the limit."""
    tunables = TUNABLES[phase]
    single = [{name: value} for name, values in tunables.items() for value in values]
    pairs = [{a: x, b: y} for i, a in enumerate(tunables) for b in list(tunables)[i + 1:]
             for x in tunables[a] for y in tunables[b]]
    rng.shuffle(pairs)
    return ([{}] + single + pairs)[:limit]


def sweep(key, limit, rng, hostile=False):
    """Lines of one key: its record, then its trials."""
    phase, tokens = key["phase"], key["tokens"]
    fields = dict(item.split("=") for item in key["spec"].split(" "))
    topk, group, head_dim = int(fields["topk"]), int(fields["heads"]) // 8, int(fields["head_dim"])
    floor = tokens * 8 * group * head_dim * (topk * 64 if phase == "attend" else tokens / 64) * 4 / 800e12 * 1e3
    slow = 1.35 + 0.9 / math.sqrt(1 + key["overlap"]) + 0.25 * (head_dim == 64) + 0.12 * (group == 4) + 20 / tokens ** 0.5
    # Every shape likes its tunables a little differently.
    taste = {(name, value): rng.gauss(1, 0.018) for name, values in TUNABLES[phase].items() for value in values}
    trials, pruned, rejected = [], 0, 0
    for config in configs(phase, limit, rng):
        trial = dict(key, kind="trial", config=words(config), outcome="dropped", reason="", ms=0, low=0, high=0, rounds=0)
        if config.get("attend_stages", 0) * config.get("attend_keys", 64) * head_dim > 6 * 64 * 80:
            pruned += 1
            trial.update(outcome="pruned", reason=f"attend_stages={config['attend_stages']} needs "
                         f"{config['attend_stages'] * config.get('attend_keys', 64) * head_dim * 4 + 4096} bytes of shared "
                         f"memory, {ARCH} has 232448: at most 4 fit")
        elif config.get("score_tokens") == 64 and head_dim == 128:
            pruned += 1
            trial.update(outcome="pruned", reason=f"score_tokens=64 needs {rng.randrange(280, 300) * 1000} registers at head "
                         "dimension 128, a thread has 255")
        elif config.get("attend_fma") == 3 and rng.random() < 0.2:
            rejected += 1
            trial.update(outcome="rejected", reason=f"wrong in {rng.randrange(1, 9)} of 24 rows: largest error "
                         f"{rng.uniform(0.1, 0.9):.3f}")
        elif len(config) == 2 and rng.random() < 0.02:
            rejected += 1
            trial.update(outcome="rejected", reason=HOSTILE if hostile else "the worker died of signal 11")
        else:
            ms = floor * slow * math.prod(TUNABLES[phase][name][value] * taste[name, value] for name, value in config.items())
            if rng.random() < 0.04 and config:
                ms *= rng.uniform(1.6, 4)  # spills
            width = ms * rng.uniform(0.002, 0.009)
            trial.update(ms=ms, low=ms - width, high=ms + width * rng.uniform(0.6, 1.4), rounds=rng.randrange(2, 25))
        trials.append(trial)
    timed = sorted((t for t in trials if t["ms"]), key=lambda t: t["ms"])
    for trial in timed[:5]:
        trial["outcome"] = "kept"
    best = timed[0]
    best["outcome"] = "best"
    last = dict(item.split("=") for item in best["config"].split(" ") if "=" in item)
    record = dict(key, kind="record", config=best["config"], origin="measured", effort="full", ms=best["ms"],
                  low=best["low"], high=best["high"], default_ms=trials[0]["ms"], floor_ms=floor, rounds=30,
                  clock_mhz=1700, watts=610, tried=len(trials) - pruned, rejected=rejected, pruned=pruned, verified="all",
                  edges=[name for name, value in last.items() if len(TUNABLES[phase][name]) > 2 and
                         int(value) in (min(TUNABLES[phase][name]), max(TUNABLES[phase][name]))],
                  protocol="graph replay, cold L2, interleaved rounds, finalists again in another order (1)", code="ab12cd34",
                  driver="1.2.3", date=rng.choice(["2026-11-24", "2026-11-25"]))
    return [record] + trials


def model_record(key, rng):
    """What a performance model would choose: mostly sensible, sometimes for a card that was never measured."""
    names = list(TUNABLES[key["phase"]])
    config = {name: rng.choice(list(TUNABLES[key["phase"]][name])) for name in sorted(rng.sample(names, 2), key=names.index)}
    return dict(key, kind="record", config=words(config), origin="model", effort="full", ms=1, low=0, high=0, default_ms=0,
                floor_ms=0, rounds=0, clock_mhz=0, watts=0, tried=0, rejected=0, pruned=0, verified="", edges=[], protocol="",
                code="ab12cd34", driver="", date="2026-11-23")


def tuned_file(path, count, candidates, seed=1, models=True, hostile=True):
    """Writes a tuned file of `count` keys with about `candidates` trials each."""
    rng = random.Random(seed)
    lines = []
    for i, one in enumerate(keys(count)):
        if hostile and i == 0:
            one["method"] = HOSTILE
        lines += sweep(one, candidates, rng, hostile)
        if models and i % 3:
            lines.append(model_record(one, rng))
    if hostile:
        lines.append(model_record(dict(keys(1)[0], method="method_b", device="another test device"), rng))
    for line in lines:
        for name in ("ms", "low", "high", "default_ms", "floor_ms"):
            if name in line:
                line[name] = round(line[name], 4)
    with open(path, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
        if hostile:
            file.write('{"schema": 1, "kind": "rec\n')  # a writer that was killed
