"""Trains a tiny model densely on short texts of a retrieval task, then goes on with long ones: with the blocks that InfLLM-V2
selects and, from the same weights, densely. Prints both curves and draws them.

  python train.py [--device cpu|cuda] [--out FOLDER] [--seed N]

Needs torch and the package winnow. Without --device it takes a GPU where torch sees one; on the CPU all is smaller.
Exit: FOLDER/curves.svg. Exit code 0, or 1 where a loss has not fallen or less than MARK of the answers are right at the end of
one of the curves, 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import pathlib
import sys
from typing import Any

import torch
from picture import Point, picture
from torch.nn.functional import cross_entropy

from model import Model
from task import VOCABULARY, Task

MARK = 0.95


@dataclasses.dataclass(frozen=True)
class Texts:
    """What one phase trains on. repeats: how often a pair stands in a row."""

    steps: int
    sequences: int
    tokens: int
    pairs: int
    repeats: int
    rate: float  # of learning

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.sequences, self.tokens, self.pairs, self.repeats


@dataclasses.dataclass(frozen=True)
class Setting:
    model: dict[str, int]
    spec: dict[str, Any]  # of attention; topk * block keys are as many as a short text has
    short: Texts
    long: Texts
    measured: int  # sequences of a measurement


SETTINGS = {
    "cpu": Setting(dict(layers=1, width=64, heads=2, kv_heads=1, dim=64),
                   dict(block=16, topk=8, params=dict(window=8, stride=4, coarse_window=32, coarse_stride=16, local=2)),
                   Texts(steps=100, sequences=16, tokens=128, pairs=8, repeats=4, rate=1e-2),
                   Texts(steps=30, sequences=4, tokens=1024, pairs=16, repeats=4, rate=3e-3), measured=16),
    "cuda": Setting(dict(layers=1, width=128, heads=16, kv_heads=1, dim=64),
                    dict(block=64, topk=16, params=dict(local=2)),
                    Texts(steps=400, sequences=64, tokens=1024, pairs=8, repeats=16, rate=5e-3),
                    Texts(steps=200, sequences=8, tokens=16384, pairs=64, repeats=16, rate=2e-3), measured=8)}
SCALE, WARM_UP, MEASUREMENTS = 0.25, 20, 10


def losses(model: Model, batch: tuple[torch.Tensor, torch.Tensor], spec: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss, in which answers count as much as all other words together; and the share of answers that are right."""
    ids, is_asked = batch
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=ids.is_cuda):
        logits = model(ids, spec)[:, :-1].float()
    words, asked = ids[:, 1:], is_asked[:, :-1]
    each = cross_entropy(logits.transpose(1, 2), words, reduction="none")
    right = (logits.argmax(-1) == words)[asked].float().mean()
    return (each[asked].mean() + each[~asked].mean()) / 2, right


@torch.no_grad()
def measure(model: Model, texts: Texts, spec: dict[str, Any], sequences: int, device: torch.device) -> tuple[float, float]:
    """Over the same texts each time, of which none is trained on."""
    task = Task(seed=1 << 20, device=device)
    parts = [losses(model, task.batch(1, *texts.shape[1:]), spec) for _ in range(sequences)]
    loss, right = (torch.stack(part).mean().item() for part in zip(*parts))
    return loss, right


def train(model: Model, task: Task, texts: Texts, spec: dict[str, Any], name: str, done: int, measured: int) -> list[Point]:
    """Trains the model and gives its curve. done: tokens that it was trained on before."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=texts.rate, betas=(0.9, 0.99))
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / WARM_UP))
    curve: list[Point] = []
    for step in range(texts.steps + 1):
        if step % (texts.steps // MEASUREMENTS) == 0:
            point = Point(done + step * texts.sequences * texts.tokens, *measure(model, texts, spec, measured, task.device))
            curve.append(point)
            print(f"{name:16s} {step:4d} steps {point.tokens:11,d} tokens   loss {point.loss:.3f}   retrieval "
                  f"{point.retrieval:.3f}", flush=True)
        if step < texts.steps:
            loss, _ = losses(model, task.batch(*texts.shape), spec)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm_up.step()
    return curve


def run(setting: Setting, device: torch.device, seed: int) -> dict[str, list[Point]]:
    torch.manual_seed(seed)
    short, long = setting.short, setting.long
    # One program for both lengths: below dense_len it attends to all keys.
    selected = dict(setting.spec, method="infllm_v2", scale=SCALE)
    selected["params"] = dict(setting.spec["params"], dense_len=short.tokens + 1)
    model = Model(VOCABULARY, **setting.model).to(device)
    curves = {"short, dense": train(model, Task(seed, device), short, selected, "short, dense", 0, setting.measured)}
    done = short.steps * short.sequences * short.tokens
    for name, spec in (("long, selected", selected), ("long, dense", dict(method="dense", scale=SCALE))):
        curves[name] = train(copy.deepcopy(model), Task(seed + 1, device), long, spec, name, done, setting.measured)
    return curves


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SETTINGS, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of curves.svg")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU: give --device cpu")
    if args.device == "cpu":
        torch.set_num_threads(1)  # the model is small; attention takes all cores nevertheless
    setting = SETTINGS[args.device]
    curves = run(setting, torch.device(args.device), args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "curves.svg").write_text(picture(
        f"{setting.short.tokens:,} tokens a text, then {setting.long.tokens:,}", curves), encoding="utf-8")
    print(f"drawn: {args.out / 'curves.svg'}")
    wrong = [name for name, curve in curves.items() if curve[-1].retrieval < MARK or curve[-1].loss >= curve[0].loss]
    for name in wrong:
        print(f"train_long: {name}: the loss went from {curves[name][0].loss:.3f} to {curves[name][-1].loss:.3f}, retrieval is "
              f"{curves[name][-1].retrieval:.3f}, and the mark {MARK}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
