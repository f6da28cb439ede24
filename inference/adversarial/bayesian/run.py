"""`play_bayesian`: all chains of both kinds in turn, and what is kept of them."""

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from posterity.inference.adversarial.bayesian.chains import Chains
from posterity.inference.adversarial.bayesian.likelihood import (
    SITE,
    discriminator_log_likelihood,
    generator_log_likelihood,
    judged,
)
from posterity.inference.adversarial.bayesian.result import BayesianGame
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial
from posterity.inference.adversarial.training_run import asked, check_data, check_network
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.training.modes import evaluation_mode
from posterity.models.stacked import Stacked
from posterity.random import child_seeds, seeded
from posterity.validation import check_integer, check_seed


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

    Both functions make a new network at each call, with the weights that a chain starts from: z (B, latent) to samples
    (B, ...), and samples to logits. Weights must be the only state of a network, which excludes batch normalisation. An
    interrupt keeps the draws so far, if there are any, with a ``RuntimeWarning`` that gives their number.

    Raises ``ValueError`` for data that are not finite, not floating, or have fewer rows than a batch; networks that do
    not fit the data, or have buffers or frozen weights; and weights that become NaN or infinite (the message names the
    network).
    """
    settings = BayesianAdversarial() if settings is None else settings
    if not isinstance(settings, BayesianAdversarial):
        raise ValueError(f"expected settings as BayesianAdversarial(...), got {settings!r}")
    check_seed(seed)
    check_integer("latent", latent, 1)
    check_data(data, settings.batch_size)
    begun = time.perf_counter()
    with seeded(seed):  # what makes networks, and dropout, draw from torch's global state
        nets = _made("make_generator", make_generator, settings.generators, data)
        judges = _made("make_discriminator", make_discriminator, settings.discriminators, data)
        generators = Chains("generator", nets, child_seeds(seed, settings.generators, 0), 0)
        discriminators = Chains("discriminator", judges, child_seeds(seed, settings.discriminators, 1), 1)
        _check_fit(generators.net, discriminators.net, data, latent)
        run = Run(settings, generators, discriminators, data, latent)
        run.play()
    if not run.draws:
        raise KeyboardInterrupt("interrupted before the first draw")
    if run.interrupted:
        kept = f"{len(run.draws)} of {settings.draws} draws of each generator are kept"
        warnings.warn(f"interrupted: {kept}; the run cannot be continued", RuntimeWarning, stacklevel=2)
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


def _made(name: str, make: Callable[[], nn.Module], count: int, data: Tensor) -> list[nn.Module]:
    if not callable(make):
        raise ValueError(f"expected {name} as a function that makes a network, got {make!r}")
    nets = [make() for _ in range(count)]
    for net in nets:
        check_network(f"what {name} makes", net)
    return [net.to(data) for net in nets]


class Run:
    """The loop of one call, and what it has kept."""

    def __init__(
        self, settings: BayesianAdversarial, generators: Chains, discriminators: Chains, data: Tensor, latent: int
    ) -> None:
        self.settings, self.data, self.latent = settings, data, latent
        self.generators, self.discriminators = generators, discriminators
        self.draws: list[Tensor] = []  # of generators, each (J_g, P)
        self.history: dict[str, list[Tensor]] = {f"{side.kind}_log_likelihood": [] for side in self.sides}
        self.interrupted = False

    @property
    def sides(self) -> tuple[Chains, Chains]:
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

    def move(self, side: Chains, likelihood: Tensor, at: int) -> None:
        side.move(likelihood, len(self.data), self.settings, warm=at <= self.settings.warmup)
        if (wrong := side.wrong()) is not None:
            raise ValueError(
                f"expected finite weights, got others of {side.kind} {wrong} in step {at}: try a learning_rate below "
                f"{self.settings.learning_rate[side.which]:g}"
            )


@torch.no_grad()
def _check_fit(generators: Stacked, discriminators: Stacked, data: Tensor, latent: int) -> None:
    """Both kinds fit the data and each other, in evaluation, so that nothing of them changes."""
    with evaluation_mode(generators), evaluation_mode(discriminators):
        made = asked("generator", generators, data.new_zeros(generators.count, 2, latent))
        if made.shape[1:] != (2, *data.shape[1:]):
            shape = ", ".join(map(str, data.shape[1:]))
            raise ValueError(f"expected a generator of samples of shape (N, {shape}), got {tuple(made.shape[1:])}")
        answers = asked("discriminator", discriminators, made[0].expand(discriminators.count, *made.shape[1:]))[0]
        if answers.shape not in ((2,), (2, 1)):
            raise ValueError(f"expected a discriminator with one logit a sample, got shape {tuple(answers.shape)}")
