"""One run of a sampler of `mcmc.py`, in a process that has done nothing else and loads nothing of other libraries.

    python _mcmc_one.py PROBLEM SAMPLER SEED SETTINGS FOLDER

Writes the functions of the draws (chain, draw, function) and what the run cost. A clock starts when libraries are
imported and data are loaded; memory and CPU seconds include those of child processes.
"""

import importlib
import json
import resource
import sys
from pathlib import Path

import numpy as np
from _panel_one import Clock

# The module of each sampler; "_default" is the same with the library's own settings.
SAMPLERS = {
    "posterity_hmc": ("_mcmc_ours", "hmc"),
    "posterity_nuts": ("_mcmc_ours", "nuts"),
    "pyro_nuts": ("_mcmc_ours", "pyro_nuts"),
    "numpyro_nuts": ("_mcmc_peers", "numpyro_nuts"),
    "numpyro_nuts_vectorized": ("_mcmc_peers", "numpyro_nuts"),
    "blackjax_nuts": ("_mcmc_peers", "blackjax_nuts"),
    "blackjax_chees": ("_mcmc_peers", "blackjax_chees"),
    "nutpie": ("_mcmc_nutpie", "sample"),
}
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main() -> None:
    name, sampler, seed, settings, folder = sys.argv[1:]
    module, function = SAMPLERS[sampler.removesuffix("_default")]
    run = getattr(importlib.import_module(module), function)
    problem = importlib.import_module("_mcmc_problems").PROBLEMS[name]()
    clock = Clock()
    clock()
    found = run(problem, int(seed), **json.loads(settings))
    clock()
    found["cpu_seconds"] = clock.seconds()["cpu_seconds"]
    found["peak_mb"] = max(resource.getrusage(who).ru_maxrss for who in WHO) / 1024
    np.save(Path(folder, "functions.npy"), problem.functions(found.pop("draws")))
    Path(folder, "run.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
