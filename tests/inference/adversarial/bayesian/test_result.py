"""`BayesianRun`: samples of all draws, their density, and the posterior that holds them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from posterity.inference.adversarial.bayesian import train_bayesian
from posterity.inference.adversarial.bayesian.likelihood import generator_posterior_model
from posterity.inference.posterior import Posterior
from tests.bayesian_gan_cases import (
    Line,
    Quadratic,
    bayesian_settings,
    make_generator,
    train_short,
)


def test_samples_are_those_of_the_networks_with_the_weights_of_each_draw():
    run = train_short()
    each = run.samples(6, seed=3, per_draw=True)
    assert each.shape == (15, 6, 2)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    for index in (0, 7, 14):
        net = make_generator()
        net.load_state_dict(
            {name.removeprefix("generator."): v.flatten(0, 1)[index] for name, v in run.posterior.draws.items()}
        )
        torch.testing.assert_close(each[index], net(z))


@pytest.mark.parametrize("n", [1, 4, 15, 40])
def test_samples_come_from_all_draws_as_evenly_as_possible(n):
    """Each generator makes its own number for every z: none is more than one sample ahead of another."""

    class Number(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, z):
            return self.weight.expand(len(z), 1)

    data, chosen = torch.randn(50, 1), bayesian_settings(preconditioned=False)
    samples = train_bayesian(Number, Quadratic, data, latent=3, settings=chosen).samples(n, seed=0)
    assert samples.shape == (n, 1)
    counts = samples.unique(return_counts=True)[1]
    assert len(counts) == min(n, 15)
    assert int(counts.max()) - int(counts.min()) <= 1


def test_density_and_spread_are_those_of_the_kernels_over_all_draws():
    """Samples a + b z have a normal density of sd sqrt(b² + bandwidth²), known to 2 % from 20,000 samples."""
    data = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
    run = train_bayesian(Line, Quadratic, data, latent=1, settings=bayesian_settings(learning_rate=(0.05, 0.05)))
    points = torch.linspace(-1, 1, 5)[:, None]
    mean, spread = run.density_spread(points, 0.3, samples=20_000)
    lines = run.posterior.draws["generator.weight"].flatten(0, 1)
    exact = torch.distributions.Normal(lines[:, 0], (lines[:, 1] ** 2 + 0.3**2).sqrt()).log_prob(points).exp()
    torch.testing.assert_close(mean, exact.mean(1), atol=0.01, rtol=0)
    torch.testing.assert_close(spread, exact.std(1, correction=0), atol=0.01, rtol=0)
    assert float(spread.max()) > 0.02
    for bad in (points[:, 0], torch.zeros(3, 2)):
        with pytest.raises(ValueError, match=r"expected points of shape \(P, 1\)"):
            run.density_spread(bad, 0.3)
    with pytest.raises(ValueError, match="expected bandwidth to be a finite number above 0"):
        run.density_spread(points, 0.0)


def test_the_posterior_is_read_and_stored_as_any_other(tmp_path):
    """Its likelihood is that of the discriminators' answers; files and ArviZ data are those of every posterior."""
    run = train_short()
    posterior, z, ones = run.posterior, torch.randn(7, 3), torch.ones(7)
    assert set(posterior.program.latents) == set(posterior.draws)
    assert posterior.program.deterministics == ("x",)
    samples = run._generate(run._weights(), z.expand(15, -1, -1))
    expected = torch.stack([logsigmoid(judge(samples.flatten(0, 1))) for judge in run.discriminators.split()], -1)
    log_likelihood = posterior.log_likelihood(z, ones)
    torch.testing.assert_close(log_likelihood.flatten(0, 1), expected.unflatten(0, (15, 7)))
    tree = posterior.to_arviz(z, ones)
    assert tree["posterior"]["x"].shape == (3, 5, 7, 2)
    assert tree["posterior"]["generator.0.weight"].shape == (3, 5, 8, 3)
    again = Posterior.load(posterior.save(tmp_path / "draws.pt"), posterior.model, z, ones)
    assert all(torch.equal(value, again.draws[name]) for name, value in posterior.draws.items())
    model = generator_posterior_model(make_generator(), run.discriminators, 0.5)
    torch.testing.assert_close(
        Posterior.load(tmp_path / "draws.pt", model, z, ones).log_likelihood(z, ones), log_likelihood
    )  # fmt: skip
    assert posterior.attrs["method"] == "BayesianAdversarial"
