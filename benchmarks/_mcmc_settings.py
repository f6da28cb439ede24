"""The settings of every sampler of `mcmc.py` on every problem. All tuning is here."""

from typing import Any


def of(chains: int, warmup: int, draws: int, **more: Any) -> dict[str, Any]:
    return {"chains": chains, "warmup": warmup, "draws": draws, **more}


# Each library's own settings. NumPyro and BlackJAX have none for the number of iterations: they make four chains of
# 1,000 + 1,000, and ChEES, which adapts over chains, sixteen.
DEFAULTS: dict[str, dict[str, Any]] = {
    "posterity_hmc_default": of(16, 300, 500),
    "posterity_nuts_default": of(16, 300, 500),
    "numpyro_nuts_default": of(4, 1000, 1000),
    "blackjax_nuts_default": of(4, 1000, 1000),
    "blackjax_chees_default": of(16, 1000, 1000),
    "nutpie_default": of(6, 400, 1000),
}
DENSE = ("blackjax_chees_default",)  # keep a covariance of all dimensions, too large for `moons`

# All tuning is here. An R-hat below 1.01 needs about 100 effective draws of every chain, and more with more chains.
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "wavy": {
        "posterity_hmc": of(32, 60, 200, trajectory_length=3.7, target_accept=0.9),
        "posterity_nuts": of(32, 80, 160, max_tree_depth=8),
        "pyro_nuts": of(2, 60, 60),
        "numpyro_nuts": of(2, 500, 1000),
        "numpyro_nuts_vectorized": of(4, 500, 1000, chain_method="vectorized"),
        "blackjax_nuts": of(2, 500, 1000),
        "blackjax_chees": of(32, 300, 500, mass_matrix_estimation="diagonal", max_leapfrog_steps=256),
    },
    "schools": {
        "posterity_hmc": of(32, 150, 1000),
        "posterity_nuts": of(32, 150, 300),
        "pyro_nuts": of(2, 300, 1000),
        "numpyro_nuts": of(4, 500, 2000),
        "numpyro_nuts_vectorized": of(8, 500, 1000, chain_method="vectorized"),
        "blackjax_nuts": of(4, 500, 2000),
        "blackjax_chees": of(16, 500, 1000, target_acceptance_rate=0.8, mass_matrix_estimation="diagonal"),
    },
    "moons": {
        "posterity_hmc": of(16, 60, 300, trajectory_length=1.5, target_accept=0.8),
        "posterity_nuts": of(16, 60, 300),
        "numpyro_nuts": of(2, 500, 1000),
        "numpyro_nuts_vectorized": of(4, 500, 1000, chain_method="vectorized"),
        "blackjax_chees": of(16, 500, 500, max_leapfrog_steps=256),  # the diagonal metric keeps a 10,602² covariance
    },
    "energy": {
        "posterity_hmc": of(16, 200, 200, trajectory_length=16.0, target_accept=0.9),
        "posterity_nuts": of(16, 100, 60, max_tree_depth=9),
        "numpyro_nuts": of(2, 300, 400),
        "blackjax_chees": of(16, 300, 200, mass_matrix_estimation="diagonal", max_leapfrog_steps=256),
    },
    "saas": {
        "posterity_hmc": of(16, 300, 500),
        "posterity_nuts": of(16, 300, 500),
        "pyro_nuts": of(2, 300, 300),
        "numpyro_nuts": of(4, 500, 1000),
        "numpyro_nuts_vectorized": of(4, 500, 1000, chain_method="vectorized"),
        "blackjax_nuts": of(4, 500, 1000),
        "blackjax_chees": of(16, 500, 1000, target_acceptance_rate=0.8, mass_matrix_estimation="diagonal"),
    },
}
for _problem, _settings in SETTINGS.items():
    if _problem != "energy":  # hours
        _settings |= {name: found for name, found in DEFAULTS.items() if _problem != "moons" or name not in DENSE}
QUICK: dict[str, dict[str, dict[str, Any]]] = {
    "wavy": {
        "posterity_hmc": of(8, 50, 50),
        "pyro_nuts": of(2, 4, 4, max_tree_depth=4),
    },
    "schools": {
        "posterity_hmc": of(8, 50, 50),
        "posterity_nuts": of(8, 50, 50),
        "numpyro_nuts": of(2, 50, 50, max_tree_depth=6),
        "blackjax_chees": of(8, 50, 50, max_leapfrog_steps=50),
        "nutpie_default": of(2, 50, 50),
    },
    "saas": {
        "posterity_nuts_default": of(8, 50, 50),
        "numpyro_nuts_default": of(2, 30, 30, max_tree_depth=4),
        "nutpie_default": of(2, 30, 30),
    },
}

# Measured once only: slower than another way of the same library in every run so far, or minutes long.
ONCE = {(problem, "numpyro_nuts_vectorized") for problem in SETTINGS} | {
    ("wavy", "pyro_nuts"), ("energy", "posterity_nuts"), ("moons", "posterity_nuts"),
    ("wavy", "blackjax_nuts"), ("schools", "blackjax_nuts"), ("energy", "blackjax_chees"), ("moons", "blackjax_chees"),
}  # fmt: skip
