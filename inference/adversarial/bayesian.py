"""The Bayesian GAN: many generators and many discriminators, drawn from a posterior instead of trained to one point.

Saatchi & Wilson 2017 (arXiv:1705.09558), Algorithm 1. All weights of both kinds of networks have priors N(0, sd²). A
generator is likely if the discriminators take what it makes for real, a discriminator if it tells both kinds apart
(their equations 1 and 2, from B samples of a step to the N of the data by their supplement's N/B):

    log p(g_j | z, d)    = log N(g_j; 0, sd²) + w_g N/B  Σ_b      mean_k log D_k(G_j(z_b))
    log p(d_k | z, x, g) = log N(d_k; 0, sd²) + w_d N/B (Σ_b log D_k(x_b) + Σ_b mean_j log(1 - D_k(G_j(z_b))))

Both are explored in turn by stochastic-gradient Hamiltonian Monte Carlo (`sghmc`), J_g chains of generators and J_d of
discriminators side by side as one batched computation. Where the paper can be read in two ways there is a setting:

- The opponents: Algorithm 1 adds their log densities up (``opponents="sum"``), equations 3 and 4 average over them
  (``"mean"``, the default: N data count N times, however many chains there are). With the sum the prior is counted
  once here; Algorithm 1 to the letter counts it with every term, which is ``"mean"`` at a ``temperature`` of one over
  the number of terms.
- What a generator has seen: no data but z, of which it may have as many as it likes. The paper says N; others are
  ``data_weight`` w_g.

What to expect: the two conditionals need not belong to one joint distribution, so that what the alternating chains
converge to is defined by the algorithm alone (He et al. 2019, ProbGAN, section 3). The noise of minibatches is not
subtracted from that of `sghmc` (nor is it by the authors): steps that are not small run hotter than they should. With
many weights for each datum the posterior at a ``temperature`` of 1 is blurred: of 25 narrow clusters, 10,000 data and
two layers of 128, 7 % of the samples are near a centre; at 0.01 it is 40 to 50 %. What finds all clusters there is that
there are several generators: a temperature of zero does as well.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import logsigmoid
from tqdm.auto import tqdm

from posterity.inference.adversarial.game import check_data
from posterity.inference.check import number
from posterity.inference.modes import evaluating
from posterity.inference.posterior import Posterior
from posterity.inference.program import child_seeds, inspect, seeded
from posterity.models.networks import bayesian
from posterity.models.priors import Normal
from posterity.models.stacked import Stacked

OPPONENTS = ("mean", "sum")
MEMORY = 0.999  # of the mean square of gradients
FLOOR = 0.1  # of the root mean square of all of a network's gradients: no weight's is taken for less
ROWS = 200_000  # samples or pairs in memory at a time
SITE = "generator"


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
            number(name, getattr(self, name), low=1, integer=True)
        number("warmup", self.warmup, low=0, integer=True)
        if self.steps < self.warmup + self.draws:
            raise ValueError(
                f"expected steps for the warmup of {self.warmup} and {self.draws} draws, got steps={self.steps}"
            )
        for name in ("learning_rate", "prior_sd", "data_weight"):
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise ValueError(f"expected a pair of {name}, of the generators and the discriminators, got {pair!r}")
            for value in pair:
                number(f"every {name}", value, low=0, edges=name == "data_weight")
        if not 0 < self.friction <= 1:
            raise ValueError(f"expected friction in (0, 1], got {self.friction!r}")
        number("temperature", self.temperature, low=0, edges=True)
        if self.opponents not in OPPONENTS:
            raise ValueError(f"expected opponents from {list(OPPONENTS)}, got {self.opponents!r}")
        if self.preconditioned and not self.warmup:
            raise ValueError("expected a warmup to learn the preconditioner in, got warmup=0: or preconditioned=False")

    @property
    def thin(self) -> int:
        """Steps from one draw to the next."""
        return (self.steps - self.warmup) // self.draws


def sghmc(
    position: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    noise: Tensor,
    *,
    rate: float | Tensor,
    friction: float,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One step of stochastic-gradient Hamiltonian Monte Carlo (Chen, Fox & Guestrin 2014, eq. 15, with β̂ = 0).

        v <- (1 - α) v + η ∇ log p(θ) + sqrt(2 α η T) ε,    θ <- θ + v

    ``gradient`` is that of the log density, ``noise`` ε standard normal; the new position and velocity come back. η may
    be a tensor: a step of its own for each weight. For a normal target of variance s² the draws have variance
    s² T / (1 - η/s² / (4 - 2 α)): exact but for the step.
    """
    scale = (2 * friction * temperature * torch.as_tensor(rate)).sqrt().to(position)
    velocity = (1 - friction) * velocity + rate * gradient + scale * noise
    return position + velocity, velocity


# The game


def generator_log_likelihood(generators: Stacked, discriminators: Stacked, z: Tensor) -> Tensor:
    """log D_k(G_j(z_b)), the mean over b and k: (J_g,), of z (J_g, B, latent)."""
    return logsigmoid(_judged(discriminators, generators(z))).mean((0, 2))


def discriminator_log_likelihood(discriminators: Stacked, real: Tensor, fake: Tensor) -> Tensor:
    """log D_k(x_b) + log(1 - D_k(y_jb)), means over b and j: (J_d,), of real x (J_d, B, ...) and made y (J_g, B, ...).

    Each discriminator has its own real samples, and all have the same made ones.
    """
    right = logsigmoid(discriminators(real).flatten(1)).mean(1)
    return right + logsigmoid(-_judged(discriminators, fake)).mean((1, 2))


def _judged(discriminators: Stacked, made: Tensor) -> Tensor:
    """Logits (J_d, J_g, B) of made (J_g, B, ...)."""
    flat = made.flatten(0, 1)
    logits: Tensor = discriminators(flat.expand(discriminators.count, *flat.shape))
    return logits.reshape(discriminators.count, *made.shape[:2])


def judged(generator: nn.Module, discriminators: Stacked, prior_sd: float) -> Callable[..., Tensor]:
    """The generator as a Pyro model ``model(z, real)``, by which its draws are read: see `BayesianGame`.

    Sites: the weights ``generator.*`` ~ N(0, prior_sd²); ``x`` = G(z), deterministic; ``real`` (N, J_d), Bernoulli with
    the answers of the discriminators, observed as the argument ``real`` (N,): with ones, its log density is that of the
    paper's equation 1.
    """

    def model(z: Tensor, real: Tensor | None = None) -> Tensor:
        made = bayesian(SITE, generator, Normal(scale=prior_sd, fan_in=False))(z)
        x = pyro.deterministic("x", made)
        logits = _judged(discriminators, x[None])[:, 0].T
        seen = None if real is None else real[:, None].expand(logits.shape)
        with pyro.plate("samples", len(z), dim=-2), pyro.plate("judges", discriminators.count, dim=-1):
            answer: Tensor = pyro.sample("real", dist.Bernoulli(logits=logits), obs=seen)
        return answer

    return model


@dataclass(frozen=True, eq=False)
class BayesianGame:
    """What `play_bayesian` returns: draws of generators, and what they make.

    ``posterior`` holds draws (J_g, draws, ...) of each weight of the generator. A GAN has no density of the data, so
    that its observed site is not the data: it is the discriminators' verdict, the only likelihood that a generator of
    this method has (see `judged`), with z as its input. So ``posterior.log_likelihood(z, ones)`` is log D_k(G(z)), and
    ``posterior.to_arviz(z, ones)`` has the weights and the samples x. The ``discriminators`` are those of the last
    step, and all draws are read by them, though earlier ones were drawn beside earlier ones.

    ``history`` has ``generator_log_likelihood`` (readings, J_g) and the like of discriminators, per sample.
    """

    posterior: Posterior
    generator: nn.Module
    discriminators: Stacked
    latent: int
    settings: BayesianAdversarial
    history: Mapping[str, Tensor] = field(default_factory=dict)
    interrupted: bool = False

    @torch.no_grad()
    def samples(self, n: int, *, seed: int, each: bool = False) -> Tensor:
        """n samples (n, ...), as evenly as can be from all S = J_g * draws generators, in random order.

        With ``each``, n of each: (S, n, ...), all from the same z, so that they differ by their weights alone. Raises
        ``ValueError`` for n below 1.
        """
        number("n", n, low=1, integer=True)
        random = torch.Generator().manual_seed(seed)
        weights = self._weights()
        total = len(next(iter(weights.values())))
        if each:
            z = torch.randn(n, self.latent, generator=random)
            return self._made(weights, z.expand(total, -1, -1))
        order = torch.randperm(total, generator=random)[:n]
        z = torch.randn(len(order), -(-n // len(order)), self.latent, generator=random)
        chosen = {name: value[order.to(value.device)] for name, value in weights.items()}
        # The first of every generator, then the second: the n that are wanted have all of them as evenly as can be.
        flat = self._made(chosen, z).transpose(0, 1).flatten(0, 1)[:n]
        return flat[torch.randperm(n, generator=random).to(flat.device)]

    def density_spread(
        self, points: Tensor, bandwidth: float, *, samples: int = 1000, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """The density of samples at points (P, D): its mean (P,) over all draws, and its sd (P,), what is not known.

        Of each draw, the kernel density estimate of ``samples`` from the same z, with normal kernels of sd
        ``bandwidth``. Raises ``ValueError`` for points of another shape, or a bandwidth or number that cannot be.
        """
        number("bandwidth", bandwidth, low=0)
        number("samples", samples, low=1, integer=True)
        made = self.samples(samples, seed=seed, each=True).flatten(2)
        if points.ndim != 2 or points.shape[1] != made.shape[2] or not len(points):
            raise ValueError(f"expected points of shape (P, {made.shape[2]}), got {tuple(points.shape)}")
        at, constant = points.to(made), points.shape[1] * math.log(bandwidth * math.sqrt(2 * math.pi))
        densities = torch.stack(
            [
                torch.cat(
                    [
                        torch.exp(-0.5 * (torch.cdist(part, one) / bandwidth) ** 2 - constant).mean(1)
                        for part in at.split(max(1, ROWS // samples))
                    ]
                )
                for one in made
            ]
        )
        return densities.mean(0), densities.std(0, correction=0)

    def _weights(self) -> dict[str, Tensor]:
        """(S, ...) by the generator's own names."""
        return {name.removeprefix(f"{SITE}."): value.flatten(0, 1) for name, value in self.posterior.draws.items()}

    def _made(self, weights: dict[str, Tensor], z: Tensor) -> Tensor:
        """(S, n, ...) of weights (S, ...) and z (S, n, latent)."""
        like = next(iter(weights.values()))
        one = torch.func.vmap(
            lambda own, some: functional_call(self.generator, own, (some,)), chunk_size=max(1, ROWS // z.shape[1])
        )
        with evaluating(self.generator):
            made: Tensor = one(weights, z.to(like))
        return made


def play_bayesian(
    make_generator: Callable[[], nn.Module],
    make_discriminator: Callable[[], nn.Module],
    data: Tensor,
    *,
    latent: int,
    settings: BayesianAdversarial | None = None,
    seed: int = 0,
) -> BayesianGame:
    """Draw generators and discriminators of samples ``data`` (N, ...) from their posterior.

    Both functions make a new network each time, with the weights that a chain starts from: z (B, latent) to samples
    (B, ...), and samples to logits. All their numbers must be weights: batch normalisation has others. An interrupt
    keeps the draws so far, if there are any.

    Raises ``ValueError`` for data with values that are not finite, not floating, or of fewer rows than a batch;
    networks that do not fit it, or with buffers or frozen weights; or weights that are no longer finite, with the name
    of their network.
    """
    settings = settings or BayesianAdversarial()
    number("latent", latent, low=1, integer=True)
    check_data(data, settings.batch_size)
    begun = time.perf_counter()
    with seeded(seed):  # what makes networks, and dropout, draw from torch's global state
        nets = [make_generator().to(data) for _ in range(settings.generators)]
        judges = [make_discriminator().to(data) for _ in range(settings.discriminators)]
        generators = _Chains("generator", nets, child_seeds(seed, settings.generators, 0), 0)
        discriminators = _Chains("discriminator", judges, child_seeds(seed, settings.discriminators, 1), 1)
        _check_fit(generators.net, discriminators.net, data, latent)
        run = _Run(settings, generators, discriminators, data, latent)
        run.play()
    if not run.draws:
        raise KeyboardInterrupt("interrupted before the first draw")
    judge, generator = discriminators.net.eval().requires_grad_(False), nets[0].eval()
    model = judged(generator, judge, settings.prior_sd[0])
    program = inspect(model, (data.new_zeros(1, latent), data.new_ones(1)))
    attrs: dict[str, str | int | float] = {
        "method": "BayesianAdversarial",
        "settings": repr(settings),
        "seed": seed,
        "seconds": time.perf_counter() - begun,
        "interrupted": int(run.interrupted),
    }
    draws = {f"{SITE}.{name}": value for name, value in generators.named(torch.stack(run.draws, 1)).items()}
    history = {name: torch.stack(values) for name, values in run.history.items() if values}
    posterior = Posterior(model, program, draws, history=history, attrs=attrs)
    return BayesianGame(posterior, generator, judge, latent, settings, history, run.interrupted)


class _Chains:
    """Networks of one kind side by side, their weights as one matrix (J, P), each with its own random numbers."""

    def __init__(self, kind: str, nets: list[nn.Module], seeds: list[int], which: int) -> None:
        for net in nets:
            others = [name for name, _ in net.named_buffers()]
            others += [name for name, parameter in net.named_parameters() if not parameter.requires_grad]
            if others or not list(net.parameters()):
                raise ValueError(f"expected a {kind} of weights with a prior and nothing else, got {others or 'none'}")
        self.kind, self.net, self.which = kind, Stacked(nets), which
        self.names = [name for name, _ in nets[0].named_parameters()]
        self.shapes = [parameter.shape for parameter in nets[0].parameters()]
        self.weights = [self.net.net.get_parameter(name) for name in self.names]
        self.position = torch.cat([weight.detach().flatten(1) for weight in self.weights], 1)
        for name, view in self.named(self.position).items():
            self.net.net.get_parameter(name).data = view  # what changes the matrix changes the networks
        self.velocity, self.square = torch.zeros_like(self.position), torch.zeros_like(self.position)
        self.updates = 0
        self.randoms = [torch.Generator(self.position.device).manual_seed(seed) for seed in seeds]

    def named(self, matrix: Tensor) -> dict[str, Tensor]:
        """(J, ..., P) as tensors (J, ..., *shape) of each name."""
        parts = matrix.split([shape.numel() for shape in self.shapes], -1)
        return {
            name: part.unflatten(-1, shape) if len(shape) else part.squeeze(-1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (J, ...)."""
        like = self.position
        return torch.stack(
            [torch.randn(shape, generator=own, dtype=like.dtype, device=like.device) for own in self.randoms]
        )

    def rows(self, data: Tensor, size: int) -> Tensor:
        """A batch of the data for each: (J, size, ...)."""
        index = [torch.randint(len(data), (size,), generator=own, device=data.device) for own in self.randoms]
        return data[torch.stack(index)]

    def move(self, likelihood: Tensor, count: int, settings: BayesianAdversarial, *, warm: bool) -> None:
        """A step along the log posterior: ``likelihood`` (J,), a mean over samples, counts ``count`` times."""
        weight = settings.data_weight[self.which] * count
        weight *= settings.generators if self.which and settings.opponents == "sum" else 1
        weight *= settings.discriminators if not self.which and settings.opponents == "sum" else 1
        parts = torch.autograd.grad(likelihood.sum(), self.weights)
        gradient = weight * torch.cat([part.flatten(1) for part in parts], 1)
        gradient -= self.position / settings.prior_sd[self.which] ** 2
        noise = self.normal(self.position.shape[1]) if settings.temperature else torch.zeros_like(self.position)
        moved, self.velocity = sghmc(
            self.position, self.velocity, gradient, noise, rate=self._rate(gradient, settings, warm=warm),
            friction=settings.friction, temperature=settings.temperature,
        )  # fmt: skip
        self.position.copy_(moved)

    def _rate(self, gradient: Tensor, settings: BayesianAdversarial, *, warm: bool) -> float | Tensor:
        rate = settings.learning_rate[self.which]
        if not settings.preconditioned:
            return rate
        if warm:
            self.square.lerp_(gradient**2, 1 - MEMORY)
            self.updates += 1
        square = self.square / (1 - MEMORY**self.updates)
        least = FLOOR**2 * square.mean(1, keepdim=True)
        return rate * settings.friction / torch.maximum(square, least).sqrt().clamp_min(1e-30)

    def wrong(self) -> int | None:
        """The first whose weights are not finite."""
        found = ~torch.isfinite(self.position).all(1)
        return int(found.nonzero()[0]) if bool(found.any()) else None


class _Run:
    """The loop of one call, and what it has kept."""

    def __init__(
        self, settings: BayesianAdversarial, generators: _Chains, discriminators: _Chains, data: Tensor, latent: int
    ) -> None:
        self.settings, self.data, self.latent = settings, data, latent
        self.generators, self.discriminators = generators, discriminators
        self.draws: list[Tensor] = []  # of generators, each (J_g, P)
        self.history: dict[str, list[Tensor]] = {f"{side.kind}_log_likelihood": [] for side in self.sides}
        self.interrupted = False

    @property
    def sides(self) -> tuple[_Chains, _Chains]:
        return self.generators, self.discriminators

    def play(self) -> None:
        settings, seen, since = self.settings, [0.0 * side.position[:, 0] for side in self.sides], 0
        bar = tqdm(total=settings.steps, desc="Bayesian GAN", disable=not settings.progress, leave=False)
        try:
            with bar:
                for step in range(1, settings.steps + 1):
                    for total, value in zip(seen, self.step(step), strict=True):
                        total += value
                    since += 1
                    after = step - settings.warmup
                    if after > 0 and after % settings.thin == 0 and len(self.draws) < settings.draws:
                        self.draws.append(self.generators.position.clone())
                    bar.update()
                    if step % settings.monitor_every == 0 or step == settings.steps:
                        for name, total in zip(self.history, seen, strict=True):
                            self.history[name].append(total / since)
                            total.zero_()
                        since = 0
                        shown = {name: f"{float(values[-1].mean()):.3g}" for name, values in self.history.items()}
                        bar.set_postfix(shown, refresh=False)
        except KeyboardInterrupt:
            self.interrupted = True

    def step(self, at: int) -> tuple[Tensor, Tensor]:
        """All generators move, then all discriminators; the log likelihoods per sample, (J_g,) and (J_d,)."""
        settings, generators, discriminators = self.settings, self.generators, self.discriminators
        z = generators.normal(settings.batch_size, self.latent)
        first = generator_log_likelihood(generators.net, discriminators.net, z)
        self.move(generators, first, at)
        with torch.no_grad():
            fake = generators.net(generators.normal(settings.batch_size, self.latent))
        real = discriminators.rows(self.data, settings.batch_size)
        second = discriminator_log_likelihood(discriminators.net, real, fake)
        self.move(discriminators, second, at)
        return first.detach(), second.detach()

    def move(self, side: _Chains, likelihood: Tensor, at: int) -> None:
        side.move(likelihood, len(self.data), self.settings, warm=at <= self.settings.warmup)
        if (wrong := side.wrong()) is not None:
            raise ValueError(
                f"expected finite weights, got others of {side.kind} {wrong} in step {at}: try a learning_rate below "
                f"{self.settings.learning_rate[side.which]:g}"
            )


@torch.no_grad()
def _check_fit(generators: Stacked, discriminators: Stacked, data: Tensor, latent: int) -> None:
    """Both kinds fit the data and each other, in evaluation, so that nothing of them changes."""
    with evaluating(generators), evaluating(discriminators):
        made = generators(data.new_zeros(generators.count, 2, latent))
        if made.shape[1:] != (2, *data.shape[1:]):
            shape = ", ".join(map(str, data.shape[1:]))
            raise ValueError(f"expected a generator of samples of shape (N, {shape}), got {tuple(made.shape[1:])}")
        answers = discriminators(made[0].expand(discriminators.count, *made.shape[1:]))[0]
        if answers.shape not in ((2,), (2, 1)):
            raise ValueError(f"expected a discriminator with one logit a sample, got shape {tuple(answers.shape)}")
