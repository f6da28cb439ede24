"""The published parameters of draws of the other libraries' sites, which have the same names in NumPyro and PyMC."""

from collections.abc import Callable, Mapping

import numpy as np

Draws = Mapping[str, np.ndarray]  # (chain, draw, ...) of every site
Parameters = dict[str, np.ndarray]  # (chain, draw) of every published name


def columns(prefix: str, values: np.ndarray) -> Parameters:
    return {f"{prefix}[{i + 1}]": values[..., i] for i in range(values.shape[-1])}


def named(*names: str) -> Callable[[Draws], Parameters]:
    """The published parameters are these sites, or their columns."""

    def parameters(draws: Draws) -> Parameters:
        found: Parameters = {}
        for name in names:
            found |= columns(name, draws[name]) if draws[name].ndim == 3 else {name: draws[name]}
        return found

    return parameters


def schools(draws: Draws) -> Parameters:
    theta = draws["mu"][..., None] + draws["tau"][..., None] * draws["theta_trans"]
    return {**columns("theta", theta), "mu": draws["mu"], "tau": draws["tau"]}


def garch(draws: Draws) -> Parameters:
    return {**named("mu", "alpha0", "alpha1")(draws), "beta1": (1 - draws["alpha1"]) * draws["share"]}


def hidden_markov(draws: Draws) -> Parameters:
    theta = draws["theta"]
    rows = {**columns("theta1", theta[..., 0, :]), **columns("theta2", theta[..., 1, :])}
    return {**rows, **columns("mu", draws["mu"])}


def radon(draws: Draws) -> Parameters:
    found = named("mu_alpha", "sigma_alpha", "mu_beta", "sigma_beta", "sigma_y")(draws)
    for name in ("alpha", "beta"):
        effects = draws[f"mu_{name}"][..., None] + draws[f"sigma_{name}"][..., None] * draws[f"{name}_raw"]
        found |= columns(name, effects)
    return found


PARAMETERS: dict[str, Callable[[Draws], Parameters]] = {
    "eight_schools": schools,
    "eight_schools_centred": named("theta", "mu", "tau"),
    "kidiq": named("beta", "sigma"),
    "sblri": named("beta", "sigma"),
    "arK": named("alpha", "beta", "sigma"),
    "earnings": named("beta", "sigma"),
    "kilpisjarvi": named("alpha", "beta", "sigma"),
    "garch": garch,
    "gp_regr": named("rho", "alpha", "sigma"),
    "hmm": hidden_markov,
    "gauss_mix": named("mu", "sigma", "theta"),
    "arma11": named("mu", "phi", "theta", "sigma"),
    "diamonds": named("b", "Intercept", "sigma"),
    "lotka_volterra": named("theta", "z_init", "sigma"),
    "irt_2pl": named("sigma_theta", "sigma_a", "mu_b", "sigma_b", "theta", "a", "b"),
    "radon": radon,
}
