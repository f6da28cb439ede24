"""`train_bayesian`: alternating steps of all generators and all discriminators, and the draws that are kept."""

import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.bayesian.chains import Chains
from posterity.inference.adversarial.bayesian.likelihood import (
    SITE,
    discriminator_log_likelihood,
    generator_log_likelihood,
    generator_posterior_model,
)
from posterity.inference.adversarial.bayesian.result import BayesianRun
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial
from posterity.inference.adversarial.checks import (
    call_network,
    check_data,
    check_logit_shape,
    check_network,
    check_sample_shape,
)
from posterity.inference.posterior import Posterior
from posterity.inference.program.sites import inspect
from posterity.inference.training.modes import evaluation_mode
from posterity.models.stacked import Stacked
from posterity.progress import progress_bar
from posterity.random import child_seeds, seeded
from posterity.validation import check_callable, check_integer, check_seed, shown


def train_bayesian(
    make_generator: Callable[[], nn.Module],
    make_discriminator: Callable[[], nn.Module],
    data: Tensor,
    *,
    latent: int,
    settings: BayesianAdversarial | None = None,
    seed: int = 0,
) -> BayesianRun:
    """Draw generators and discriminators from their posterior; returns a `BayesianRun`.

    The weights must be the only state of a network, which excludes batch normalisation. An interrupt keeps the draws so
    far, with a ``RuntimeWarning`` that gives their number.

    Args:
        make_generator: Makes a new generator at each call, with the initial weights of a chain; it maps latent points
            (B, latent) to samples (B, ...).
        make_discriminator: Makes a new discriminator at each call; it maps samples (B, ...) to logits (B,) or (B, 1).
        data: Real samples (N, ...), floating.
        latent: Dimension of the latent points, draws from the standard normal distribution.
        settings: Steps, draws, priors and more; `BayesianAdversarial` with its defaults if None.
        seed: Seed of the initial weights, batches, latent points and the noise of the sampler.

    Raises:
        ValueError: Data that are not finite, not floating, or fewer than a batch; networks that do not fit the data, or
            have buffers or frozen weights; or weights that become NaN or infinite.
        KeyboardInterrupt: An interrupt before the first draw.
    """
    settings = BayesianAdversarial() if settings is None else settings
    if not isinstance(settings, BayesianAdversarial):
        raise ValueError(f"expected settings to be BayesianAdversarial(...), got {shown(settings)}")
    check_seed(seed)
    check_integer("latent", latent, 1)
    check_data(data, settings.batch_size)
    begun = time.perf_counter()
    with seeded(seed):  # initial weights and dropout are drawn from torch's global state
        nets = _make_networks("make_generator", make_generator, settings.generators, data)
        judges = _make_networks("make_discriminator", make_discriminator, settings.discriminators, data)
        generators = Chains("generator", nets, child_seeds(seed, settings.generators, 0), 0)
        discriminators = Chains("discriminator", judges, child_seeds(seed, settings.discriminators, 1), 1)
        _check_fit(generators.net, discriminators.net, data, latent)
        loop = SamplingLoop(settings, generators, discriminators, data, latent)
        loop.run()
    if not loop.draws:
        raise KeyboardInterrupt("interrupted before the first draw")
    if loop.interrupted:
        kept = f"{len(loop.draws)} of {settings.draws} draws of each generator are kept"
        warnings.warn(f"interrupted: {kept}; the run cannot be continued", RuntimeWarning, stacklevel=2)
    discriminator, generator = discriminators.net.eval().requires_grad_(False), nets[0].eval()
    model = generator_posterior_model(generator, discriminator, settings.prior_sd[0])
    program = inspect(model, (data.new_zeros(1, latent), data.new_ones(1)))
    attrs: dict[str, str | int | float] = {
        "method": "BayesianAdversarial",
        "settings": repr(settings),
        "seed": seed,
        "seconds": time.perf_counter() - begun,
        "interrupted": int(loop.interrupted),
    }
    draws = {f"{SITE}.{name}": value for name, value in generators.by_name(torch.stack(loop.draws, 1)).items()}
    history = {name: torch.stack(values) for name, values in loop.history.items() if values}
    posterior = Posterior(model, program, draws, history=history, attrs=attrs)
    return BayesianRun(posterior, generator, discriminator, latent, settings, history, loop.interrupted)


def _make_networks(name: str, make: Callable[[], nn.Module], count: int, data: Tensor) -> list[nn.Module]:
    check_callable(name, make, "no arguments that makes a network")
    nets = [make() for _ in range(count)]
    for net in nets:
        check_network(f"the result of {name}", net)
    return [net.to(data) for net in nets]


class SamplingLoop:
    """The loop of one call of `train_bayesian`, its draws and its history."""

    def __init__(
        self, settings: BayesianAdversarial, generators: Chains, discriminators: Chains, data: Tensor, latent: int
    ) -> None:
        self.settings, self.data, self.latent = settings, data, latent
        self.generators, self.discriminators = generators, discriminators
        self.draws: list[Tensor] = []  # weights of the generators, each (J_g, P)
        self.history: dict[str, list[Tensor]] = {
            f"{chains.kind}_log_likelihood": [] for chains in (generators, discriminators)
        }
        self.interrupted = False

    def run(self) -> None:
        """All steps; an interrupt ends them and is recorded."""
        settings = self.settings
        totals = [0.0 * chains.position[:, 0] for chains in (self.generators, self.discriminators)]
        count = 0  # steps in the totals
        bar = progress_bar(settings.steps, "Bayesian GAN", shown=settings.progress)
        try:
            with bar:
                for step in range(1, settings.steps + 1):
                    for total, value in zip(totals, self.step(step), strict=True):
                        total += value
                    count += 1
                    after = step - settings.warmup
                    if after > 0 and after % settings.thin == 0 and len(self.draws) < settings.draws:
                        self.draws.append(self.generators.position.clone())
                    bar.update()
                    if step % settings.monitor_every == 0 or step == settings.steps:
                        for values, total in zip(self.history.values(), totals, strict=True):
                            values.append(total / count)
                            total.zero_()
                        count = 0
                        last = {name: f"{float(values[-1].mean()):.3g}" for name, values in self.history.items()}
                        bar.set_postfix(last, refresh=False)
        except KeyboardInterrupt:
            self.interrupted = True

    def step(self, number: int) -> tuple[Tensor, Tensor]:
        """One step of all generators, then one of all discriminators.

        Returns the log likelihoods per sample, (J_g,) and (J_d,).
        """
        settings, generators, discriminators = self.settings, self.generators, self.discriminators
        z = generators.draw_normal(settings.batch_size, self.latent)
        of_generators = generator_log_likelihood(generators.net, discriminators.net, z)
        self._step_chains(generators, of_generators, number)
        with torch.no_grad():
            fake = generators.net(generators.draw_normal(settings.batch_size, self.latent))
        real = discriminators.draw_batches(self.data, settings.batch_size)
        of_discriminators = discriminator_log_likelihood(discriminators.net, real, fake)
        self._step_chains(discriminators, of_discriminators, number)
        return of_generators.detach(), of_discriminators.detach()

    def _step_chains(self, chains: Chains, log_likelihood: Tensor, number: int) -> None:
        chains.step(log_likelihood, len(self.data), self.settings, warmup=number <= self.settings.warmup)
        if (wrong := chains.first_not_finite()) is not None:
            raise ValueError(
                f"expected finite weights, got NaN or infinity in {chains.kind} {wrong} in step {number}: try a "
                f"learning_rate below {self.settings.learning_rate[chains.side]:g}"
            )


@torch.no_grad()
def _check_fit(generators: Stacked, discriminators: Stacked, data: Tensor, latent: int) -> None:
    """Check that both kinds fit the data and each other, in evaluation mode, which changes neither."""
    with evaluation_mode(generators), evaluation_mode(discriminators):
        samples = call_network("generator", generators, data.new_zeros(generators.count, 2, latent))
        check_sample_shape(samples[0], 2, data)
        inputs = samples[0].expand(discriminators.count, *samples.shape[1:])
        check_logit_shape(call_network("discriminator", discriminators, inputs)[0], 2)
