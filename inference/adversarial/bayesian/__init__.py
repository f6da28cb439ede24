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

`play_bayesian` with the settings `BayesianAdversarial` returns a `BayesianGame`: its posterior of generators, their
samples, and the spread of their density.
"""

from posterity.inference.adversarial.bayesian.kernel import sghmc
from posterity.inference.adversarial.bayesian.result import BayesianGame
from posterity.inference.adversarial.bayesian.run import play_bayesian
from posterity.inference.adversarial.bayesian.settings import BayesianAdversarial

__all__ = ["BayesianAdversarial", "BayesianGame", "play_bayesian", "sghmc"]
