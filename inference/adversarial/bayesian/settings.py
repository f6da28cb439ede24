"""`BayesianAdversarial`: settings of the Bayesian GAN."""

from dataclasses import dataclass

from posterity.validation import check_choice, check_integer, check_number, shown

OPPONENTS = ("mean", "sum")


@dataclass(frozen=True)
class BayesianAdversarial:
    """Settings of the Bayesian GAN. Pairs are (generators, discriminators).

    Attributes:
        steps: Number of steps, with the warm-up.
        warmup: Steps before the first draw.
        draws: Draws of each chain of generators, evenly spaced over the steps after the warm-up (every `thin`-th).
        generators: Number of chains of generators.
        discriminators: Number of chains of discriminators.
        batch_size: Samples of each kind in a batch.
        learning_rate: With ``preconditioned``, the length of a step as in Adam: the step η of `sghmc` is learning_rate
            * friction / (root mean square of the gradient) for each weight. Otherwise η itself, in units of the log
            density of the whole data set: about 1/N of a usual learning rate.
        friction: Share of the velocity that is lost in a step.
        prior_sd: Standard deviation of the prior of each weight.
        data_weight: Number of times that each datum counts; 0 leaves the prior alone.
        opponents: "mean" or "sum" of the log density over the opposing networks (see the package).
        temperature: The target is the posterior density to the power of 1/temperature; 0 is optimisation with momentum.
        preconditioned: Whether steps are scaled for each weight. The scale is estimated in the warm-up and then fixed,
            which is `sghmc` with a fixed mass matrix. (The authors' code warms up by Adam and continues with plain
            momentum.)
        monitor_every: Steps that one value of the history is averaged over.
        progress: Whether a progress bar is shown.

    Raises:
        ValueError: A setting of another type or outside its range.
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
        for name, interval in (("learning_rate", "(0, inf)"), ("prior_sd", "(0, inf)"), ("data_weight", "[0, inf)")):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected {name} to be a pair (generators, discriminators), got {shown(pair)}")
            for value in pair:
                check_number(f"every {name}", value, interval)
        check_number("friction", self.friction, "(0, 1]")
        check_number("temperature", self.temperature, "[0, inf)")
        check_choice("opponents", self.opponents, OPPONENTS)
        if self.preconditioned and not self.warmup:
            raise ValueError(
                "expected warmup of 1 or more to estimate the preconditioner, or preconditioned=False, got warmup=0"
            )

    @property
    def thin(self) -> int:
        """Steps from one draw to the next."""
        return (self.steps - self.warmup) // self.draws
