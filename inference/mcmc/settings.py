"""The settings that `HMC`, `NUTS` and `MCLMC` share, and their checks."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import torch

from posterity.inference.engine.tiers import TIERS
from posterity.inference.mcmc import checkpoints
from posterity.inference.mcmc.starts import Init, check_init
from posterity.inference.program.reparam import Reparam, check_reparam
from posterity.validation import check_choice, check_integer, check_number

DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
POOLINGS = ("within", "across")
METRICS = ("auto", "diagonal", "dense")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that `HMC`, `NUTS` and `MCLMC` share.

    A chain that warm-up finds in a region of negligible probability goes on from the position of another chain
    (``attrs["moved_chains"]`` counts them). Its log probability, estimated from its moments, is 20 nats and half a nat
    for each dimension below that of the best chain, or more. With ``superchains`` no chain moves.

    Args:
        draws: number of stored draws of each chain.
        warmup: number of iterations of adaptation.
        chains: number of chains.
        thin: store one draw in ``thin`` transitions. The statistic "diverging" of a draw covers all transitions since
            the previous draw.
        init: starts of the chains. "prior" draws every site from its prior, and "map" starts from modes found by
            gradient ascent; further names are "uniform", "median" and "network" (weights from their module's
            initialisation). Or values of the sites (chain, ...), or a `Posterior`, such as an ensemble, for its draws.
        superchains: number of groups of consecutive chains; all chains of a group start from the same point (for
            `posterity.inference.diagnostics.nested_rhat`). None gives every chain its own start.
        target_accept: acceptance rate to which the step size adapts. None is 0.9 with a dense metric and for `MCLMC`
            with ``adjusted=True``; with a diagonal metric it is 0.8 for NUTS and 0.95 for HMC.
        step_size: first step size; with ``warmup=0`` the step size of all draws.
        reparam: "auto" samples location-scale sites that depend on other sites in their non-centred form, in which a
            hierarchy has no funnel (see `posterity.inference.program.reparam.parametrise`); or a config of
            ``pyro.poutine.reparam``: reparametrisers by site, or a strategy. The draws are those of the model's own
            sites. None samples the model as it is.
        max_energy_error: error of the energy above which a transition counts as divergent.
        pooling: "within" pools the moments of each chain about its own mean, so that chains in different modes do not
            disturb the adaptation; "across" takes the variance over all chains.
        metric: the inverse mass matrix: "diagonal", "dense", or "auto", which is dense up to 64 dimensions. A dense one
            makes correlated densities round, and costs dim² operations for each gradient.
        engine: "auto", "eager", "replay" or "compiled" (see `posterity.inference.engine`).
        threads: number of threads; None measures one thread against all cores and takes the faster.
        max_seconds: time limit of the whole run in seconds. Warm-up ends, with the adaptation so far, after three
            quarters of the time that remains after starts and preparation; sampling ends at the limit, after a whole
            iteration. A ``ConvergenceWarning`` names the parts that were cut short. Starts and preparation cannot be
            cut short: if they exceed the limit, ``TimeoutError`` is raised.
        target_ess: stop when the smallest bulk ESS over function values and the log density reaches this value;
            ``draws`` is then the maximum.
        checkpoint: file for the whole state of the run, written every ``checkpoint_seconds`` and at the end (see
            `resume`).
        checkpoint_seconds: time between two checkpoints in seconds.
        dtype: dtype of the stored draws on the CPU: "float16", "float32" or "float64". By default the dtype of the
            density, which is torch's default dtype, or float64 if the data are.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a setting is invalid.
    """

    draws: int = 500
    warmup: int = 300
    chains: int = 16
    thin: int = 1
    init: Init = "prior"
    superchains: int | None = None
    target_accept: float | None = None
    step_size: float | None = None
    reparam: Reparam = None
    max_energy_error: float = 1000.0
    pooling: str = "within"
    metric: str = "auto"
    engine: str = "auto"
    threads: int | None = None
    max_seconds: float | None = None
    target_ess: float | None = None
    checkpoint: str | Path | None = None
    checkpoint_seconds: float = 60.0
    dtype: str | None = None
    progress: bool = True

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, least in (("draws", 1), ("warmup", 0), ("chains", 1), ("thin", 1)):
            check_integer(name, getattr(self, name), least)
        check_number("max_energy_error", self.max_energy_error, "(0, inf)")
        if self.target_accept is not None:
            check_number("target_accept", self.target_accept, "(0, 1)")
        for name in ("step_size", "max_seconds", "target_ess"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), "(0, inf)")
        check_number("checkpoint_seconds", self.checkpoint_seconds, "[0, inf)")
        if self.threads is not None:
            check_integer("threads", self.threads, 1)
        if self.checkpoint is not None:
            checkpoints.check_path(self.checkpoint)
        groups = self.superchains
        if groups is not None:
            check_integer("superchains", groups, 1)
        if groups is not None and self.chains % groups:
            raise ValueError(f"expected superchains to divide chains={self.chains}, got {groups}")
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("metric", self.metric, METRICS)
        check_choice("engine", self.engine, (*TIERS, "auto"))
        if self.dtype is not None:
            check_choice("dtype", self.dtype, sorted(DTYPES))
        if self.target_ess is not None and self.chains * self.draws < self.target_ess:
            total = self.chains * self.draws
            raise ValueError(f"expected chains * draws to be at least target_ess={self.target_ess:g}, got {total}")
        check_init(self.init)
        check_reparam(self.reparam)
        if self.checkpoint is not None and not isinstance(self.reparam, str | None):
            raise ValueError(
                "expected reparam to be None or 'auto' with a checkpoint, which cannot store a config (wrap the model "
                f"by pyro.poutine.reparam instead), got {type(self.reparam).__name__}"
            )

    def describe(self) -> str:
        """The settings in one line; an ``init`` or ``reparam`` that is not a name is shown as its type."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("init", "reparam"):
            if not isinstance(values[name], str | None):
                values[name] = type(values[name]).__name__
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in values.items())})"
