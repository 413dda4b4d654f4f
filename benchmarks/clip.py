"""Time every clip beside torch.nn.utils.clip_grad_norm_ and clip_grad_value_, in turn on the same gradients.

    python benchmarks/clip.py [--rounds 60] [--threads 1] [--quick]

Each row is one clip at one size, once where it acts and once where it does not. Gradients are put back before each
call, outside the time. A figure is the median over rounds of the milliseconds of a call; the ratio is torch's over
ours, pair by pair, so that a machine whose speed drifts hurts both alike. Every clip of ours also screens for NaN
and infinity and reports the norm; torch's two do neither, and one, of these. The result goes to
benchmarks/results/, named by its date. `--quick` runs one small size and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from unvanish.remedies import clip

RESULTS = Path(__file__).parent / "results"
SIZES = {  # how many square matrices, and how wide
    "200 × 32²": (200, 32),
    "200 × 64²": (200, 64),
    "200 × 256²": (200, 256),
    "12 × 1024²": (12, 1024),
}
QUICK = {"20 × 16²": (20, 16)}
NEVER = 1e30  # a threshold that nothing exceeds
Work = Callable[[list[nn.Parameter]], object]


def works(norm: float, acts: bool) -> dict[str, tuple[Work, str]]:
    """Return our clips, each with the torch function that it is held against."""
    to = norm / 2 if acts else NEVER
    value = 1.0 if acts else NEVER
    percentile = clip.Percentile(10.0 if acts else 100.0)
    zscore = clip.ZScore(2.5, alpha=0.999999, warmup=2)
    seen = nn.Parameter(torch.zeros(1))
    for size in (0.1, 0.12) * 500 if acts else (0.9, 1.1):  # a past that makes `norm` stand out, or not
        for adaptive in (percentile, zscore):
            seen.grad = torch.tensor([size * norm])
            adaptive([seen])
    return {
        "ByNorm": (clip.ByNorm(to), "norm"),
        "ByValue": (clip.ByValue(value), "value"),
        "PerLayer": (clip.PerLayer(to / 20), "norm"),
        "UnitWise": (clip.UnitWise(0.01 if acts else NEVER), "norm"),
        "UnitWise beside a loop": (clip.UnitWise(0.01 if acts else NEVER), "loop"),
        "Percentile": (percentile, "norm"),
        "ZScore": (zscore, "norm"),
        "RandomStep": (clip.RandomStep(to), "norm"),
        "torch": (lambda parameters: clip_grad_norm_(parameters, to), "norm"),
    }


def unit_loop(parameters: list[nn.Parameter], factor: float) -> None:
    """Clip unit by unit as the paper says it, in plain torch, tensor after tensor; torch has no such function."""
    with torch.no_grad():
        for parameter in parameters:
            limit = factor * parameter.norm(dim=1, keepdim=True).clamp(min=1e-3)
            size = parameter.grad.norm(dim=1, keepdim=True)
            clipped = parameter.grad * (limit / size.clamp(min=1e-6))
            parameter.grad.copy_(torch.where(size > limit, clipped, parameter.grad))


def seconds(work: Work, parameters: list[nn.Parameter], gradients: list[Tensor], repeats: int) -> float:
    """Time one call after the gradients are put back; of several calls the mean."""
    total = 0.0
    for _ in range(repeats):
        torch._foreach_copy_([parameter.grad for parameter in parameters], gradients)
        began = time.perf_counter()
        work(parameters)
        total += time.perf_counter() - began
    return total / repeats


def row(name: str, work: Work, theirs: Work, setting: tuple[Any, ...], rounds: int) -> dict[str, Any]:
    """Time ours and torch's in turn."""
    ours_s, theirs_s = [], []
    for index in range(rounds + 2):
        first, second = (work, theirs) if index % 2 else (theirs, work)
        found = {first: seconds(first, *setting), second: seconds(second, *setting)}
        if index >= 2:  # the first two warm the caches
            ours_s.append(found[work])
            theirs_s.append(found[theirs])
    ratio = statistics.median(their / our for our, their in zip(ours_s, theirs_s, strict=True))
    ours_ms, theirs_ms = (round(1e3 * statistics.median(times), 4) for times in (ours_s, theirs_s))
    return {"clip": name, "ours_ms": ours_ms, "torch_ms": theirs_ms, "ratio": round(ratio, 2)}


def measure(sizes: dict[str, tuple[int, int]], rounds: int) -> list[dict[str, Any]]:
    """Return a row for every clip at every size, acting and not."""
    rows = []
    for size, (count, width) in sizes.items():
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(count)]
        gradients = [torch.randn(width, width) for _ in range(count)]
        for parameter in parameters:
            parameter.grad = torch.empty_like(parameter)
        norm = width * count**0.5
        repeats = 1 if count * width**2 > 1e6 else 5
        for acts in (False, True):
            threshold, value = (norm / 2, 1.0) if acts else (NEVER, NEVER)
            theirs: dict[str, Work] = {
                "norm": lambda its, threshold=threshold: clip_grad_norm_(its, threshold),
                "value": lambda its, value=value: clip_grad_value_(its, value),
                "loop": lambda its, factor=0.01 if acts else NEVER: unit_loop(its, factor),
            }
            for name, (work, against) in works(norm, acts).items():
                setting = (parameters, gradients, repeats)
                found = row(name, work, theirs[against], setting, rounds)
                rows.append({"size": size, "acts": acts, "against": against, **found})
                print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="pairs a row (60)")
    parser.add_argument("--threads", type=int, default=1, help="of both sides (1)")
    parser.add_argument("--quick", action="store_true", help="one small size, 4 pairs, nothing written")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = measure(QUICK if asked.quick else SIZES, 4 if asked.quick else asked.rounds)
    if asked.quick:
        return
    facts = machine()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{facts['date']}-clip.json"
    path.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
