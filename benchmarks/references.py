"""Six published posteriors by HMC and NUTS: how far the means and standard deviations are from the references.

    python benchmarks/references.py [--seed 0]

Data and reference draws are those of posteriordb in POSTERITY_DATA; models and settings are those of the tests
(`tests/inference/mcmc/reference_models.py`, `test_reference_posteriors.py`). For each model and sampler: ``max_z``,
the largest distance of a mean in standard errors of both together; ``max_sd_ratio_error``; ``min_ess``, bulk;
``divergences``. Writes ``benchmarks/results/references.json``.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

import torch
from _results import versions, write
from tqdm.auto import tqdm

from posterity.inference import infer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the models are in the tests

from tests.inference.mcmc.reference_models import NAMES, compare, reference  # noqa: E402
from tests.inference.mcmc.test_reference_posteriors import METHODS, sampler  # noqa: E402


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "references.json")
    args = options.parse_args()
    start, metrics = time.perf_counter(), {}
    for name in tqdm(NAMES, desc="references"):
        known = reference(name)
        for family in METHODS:
            tick = time.perf_counter()
            posterior = infer(known.model, *known.args, method=sampler(family, name), seed=args.seed)
            found = compare(posterior, known)
            for key in ("max_z", "max_sd_ratio_error", "min_ess", "divergences"):
                metrics[f"{name}.{family.lower()}.{key}"] = round(float(found[key]), 4)
            metrics[f"{name}.{family.lower()}.seconds"] = round(time.perf_counter() - tick, 2)
    report = {
        "benchmark": "references",
        "command": f"python benchmarks/references.py --seed {args.seed}",
        "seed": args.seed,
        "quick": False,
        "versions": versions("torch", "pyro-ppl", "arviz"),
        "device": f"cpu ({platform.machine()}, {torch.get_num_threads()} thread(s))",
        "wall_seconds": round(time.perf_counter() - start, 1),
        "metrics": metrics,
    }
    write(args.out, report)
    for name in NAMES:
        for family in METHODS:
            row = {k: metrics[f"{name}.{family.lower()}.{k}"] for k in ("max_z", "max_sd_ratio_error", "min_ess")}
            print(f"{name:16} {family:5} {row}, divergences {metrics[f'{name}.{family.lower()}.divergences']:.0f}")


if __name__ == "__main__":
    main()
