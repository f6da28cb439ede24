"""`BayesianAdversarial`: how the posterior of a Bayesian GAN is explored."""

from dataclasses import dataclass

from posterity.validation import check_integer, check_number

OPPONENTS = ("mean", "sum")


@dataclass(frozen=True)
class BayesianAdversarial:
    """How the posterior of a Bayesian GAN is explored. Pairs are (generators, discriminators).

    - ``steps``: all of them, ``warmup`` before the first draw; ``draws`` are kept of every chain of generators, evenly
      spaced over the rest (every `thin`).
    - ``generators``, ``discriminators``: how many chains of each.
    - ``learning_rate``: the η of `sghmc`, in units of the whole data set's log density: about 1/N of a usual one. With
      ``preconditioned`` it is the length of a step as in Adam: η = learning_rate * friction / (root mean square of the
      gradient), of each weight. That is learned in the warm-up and then stands still, so that the draws are those of
      `sghmc` with a fixed mass matrix. (The authors' code warms up by Adam and goes on with plain momentum.)
    - ``friction``: the share of the velocity that is lost in a step.
    - ``prior_sd``: of every weight of each kind of network.
    - ``data_weight``: how often the data count in each kind's posterior; zero leaves the prior.
    - ``opponents``: "mean" or "sum" over the other kind's networks (see the module).
    - ``temperature``: the target is the density to the power of one over it; zero is optimisation with momentum.
    - ``monitor_every``: steps between two values of the history, which are means over the steps between.

    Raises ``ValueError`` for a setting that cannot be.
    """

    steps: int = 10_000
    warmup: int = 5_000
    draws: int = 20
    generators: int = 10
    discriminators: int = 4
    batch_size: int = 64
    learning_rate: tuple[float, float] = (1e-3, 1e-3)
    friction: float = 0.1
    prior_sd: tuple[float, float] = (1.0, 1.0)
    data_weight: tuple[float, float] = (1.0, 1.0)
    opponents: str = "mean"
    temperature: float = 1.0
    preconditioned: bool = True
    monitor_every: int = 100
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "draws", "generators", "discriminators", "batch_size", "monitor_every"):
            check_integer(name, getattr(self, name), 1)
        check_integer("warmup", self.warmup, 0)
        if self.steps < self.warmup + self.draws:
            raise ValueError(
                f"expected steps for the warmup of {self.warmup} and {self.draws} draws, got steps={self.steps}"
            )
        for name in ("learning_rate", "prior_sd", "data_weight"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected a pair of {name}, of the generators and the discriminators, got {pair!r}")
            for value in pair:
                check_number(f"every {name}", value, "[0, inf)" if name == "data_weight" else "(0, inf)")
        check_number("friction", self.friction, "(0, 1]")
        check_number("temperature", self.temperature, "[0, inf)")
        if self.opponents not in OPPONENTS:
            raise ValueError(f"expected opponents from {list(OPPONENTS)}, got {self.opponents!r}")
        if self.preconditioned and not self.warmup:
            raise ValueError("expected a warmup to learn the preconditioner in, got warmup=0: or preconditioned=False")

    @property
    def thin(self) -> int:
        """Steps from one draw to the next."""
        return (self.steps - self.warmup) // self.draws
