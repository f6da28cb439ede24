r"""Bayesian GAN: generators and discriminators drawn from a posterior instead of trained to one point.

Saatchi & Wilson 2017 (arXiv:1705.09558), Algorithm 1. All weights of both kinds of networks have priors N(0, sd²). A
generator is likely if the discriminators take its samples for real ones; a discriminator is likely if it tells both
kinds of samples apart (their equations 1 and 2; the factor N/B of their supplement scales B samples of a step to the N
samples of the data):

    log p(g_j | z, d)    = log N(g_j; 0, sd²) + w_g N/B  Σ_b      mean_k log D_k(G_j(z_b))
    log p(d_k | z, x, g) = log N(d_k; 0, sd²) + w_d N/B (Σ_b log D_k(x_b) + Σ_b mean_j log(1 - D_k(G_j(z_b))))

Stochastic-gradient Hamiltonian Monte Carlo (`sghmc`) explores both in turn, with J_g chains of generators and J_d
chains of discriminators side by side as one batched computation. Two settings decide where the paper is ambiguous:

- ``opponents``: Algorithm 1 sums the log densities over the opposing networks (``"sum"``), equations 3 and 4 average
  them (``"mean"``, the default: N samples count N times, whatever the number of chains). With the sum, the prior counts
  once here. Algorithm 1 to the letter counts it with every term, which is ``"mean"`` at a ``temperature`` of one over
  the number of terms.
- ``data_weight``: a generator sees no data but latent points, of which there can be any number. The paper uses N;
  ``data_weight`` w_g changes it.

Limits of the method:

- The two conditionals need not belong to one joint distribution; the limit of the alternating chains is then defined by
  the algorithm alone (He et al. 2019, ProbGAN, section 3).
- The noise of minibatches is not subtracted from the noise of `sghmc` (nor is it in the authors' code), so large steps
  run hotter than they should.
- With many weights per datum the posterior at a ``temperature`` of 1 is blurred: for 25 narrow clusters, 10,000 data
  and two layers of 128, 7 % of the samples are near a centre; at a temperature of 0.01 it is 40 to 50 %. All clusters
  are found there because there are several generators; a temperature of zero does as well.

`train_bayesian` with the settings `BayesianAdversarial` returns a `BayesianRun`: the posterior of the generators, their
samples, and the spread of their density.
"""

from posterity.inference.adversarial.bayesian.kernel import sghmc
from posterity.inference.adversarial.bayesian.result import BayesianRun
from posterity.inference.adversarial.bayesian.run import train_bayesian
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial

__all__ = ["BayesianAdversarial", "BayesianRun", "sghmc", "train_bayesian"]
