"""The no-U-turn sampler for many chains at once, without recursion.

The trees of all chains are doubled together, leaf by leaf, and chains whose tree is complete leave the computation.
Within a subtree the U-turn criterion needs one stored leaf for each level of the tree (Phan, Pradhan & Jankowiak 2019,
NumPyro; Lao & Dillon 2019): leaf 2k+1 is compared with the first leaves of the complete subtrees that end there.
Sampling along the trajectory is multinomial and biased towards the newer half (Betancourt 2017).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine import transitions
from posterity.inference.engine.chains import Engine, LanesEngine
from posterity.inference.engine.lanes.build import DEEPEST
from posterity.inference.engine.transitions import Walk
from posterity.inference.mcmc.kernel import Kernel, State, energy
from posterity.inference.mcmc.run import Sampler
from posterity.inference.mcmc.streams import Numbers, Streams
from posterity.validation import check_integer

LEAVES = 128  # index of the first uniform of the leaves
APPROACH = 4  # limit of the doublings during the approach to the typical set


@dataclass(frozen=True, kw_only=True)
class NUTS(Sampler):
    """NUTS with many chains; further settings are those of `posterity.inference.mcmc.Settings`.

    Args:
        max_tree_depth: limit d of the tree depth, from 1 to 20; it allows 2^d - 1 leapfrog steps.

    Raises:
        ValueError: a setting is invalid.
    """

    max_tree_depth: int = 10
    name: ClassVar[str] = "NUTS"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("max_tree_depth", self.max_tree_depth, 1, DEEPEST)

    def kernel(self, engine: Engine) -> Kernel:
        return NUTSKernel(self, engine)


@dataclass
class Tree:
    """The trees of the chains that still grow: both ends, the total weight, and the sum of the momenta."""

    chains: Tensor  # indices of these chains
    left: tuple[Tensor, Tensor, Tensor]  # position, momentum and gradient
    right: tuple[Tensor, Tensor, Tensor]
    log_weight: Tensor
    momentum_sum: Tensor

    def __getitem__(self, rows: Tensor) -> "Tree":
        return Tree(
            self.chains[rows],
            tuple(t[rows] for t in self.left),  # type: ignore[arg-type]
            tuple(t[rows] for t in self.right),  # type: ignore[arg-type]
            self.log_weight[rows],
            self.momentum_sum[rows],
        )


class NUTSKernel(Kernel):
    """The transition of NUTS.

    Its uniforms are, for each depth, a direction (0, 1, ...) and an acceptance (from `LEAVES` / 2), and one for each
    leaf (from `LEAVES`).
    """

    def __init__(self, settings: NUTS, engine: Engine) -> None:
        super().__init__(settings, engine)
        self.max_depth = settings.max_tree_depth

    def transition(self, state: State, numbers: Numbers, iteration: int) -> tuple[State, dict[str, Tensor]]:
        if isinstance(self.engine, LanesEngine):
            new, _, statistics = self._compiled(state, numbers.keys, numbers.transition, 1)
            return new, {name: value[0] for name, value in statistics.items()}
        return self._moved(state, numbers)

    def transitions(
        self, state: State, streams: Streams, first: int, count: int
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        if isinstance(self.engine, LanesEngine):
            return self._compiled(state, streams.keys, first, count)
        return super().transitions(state, streams, first, count)

    @property
    def _deepest(self) -> int:
        """The largest number of doublings at present."""
        return min(self.max_depth, APPROACH) if self.phase == "approach" else self.max_depth

    def _compiled(
        self, state: State, keys: np.ndarray, first: int, count: int
    ) -> tuple[State, Tensor, dict[str, Tensor]]:
        sizes = self.step_sizes()
        walk = Walk(sizes, self.inverse_mass, keys, first, self.settings.max_energy_error)
        done = transitions.nuts(self.engine, (state.q, state.grad, state.value), walk, count, self._deepest)  # type: ignore[arg-type]
        depth: Any = done.doublings
        return State(*done.state), done.draws, self.statistics(done, energy=done.energy, tree_depth=depth)

    def _moved(self, state: State, numbers: Numbers) -> tuple[State, dict[str, Tensor]]:
        """One transition, as nuts.h makes it."""
        chains, device = len(state.q), state.q.device
        sizes = self.step_sizes()
        p = numbers.normals().to(device) * self.inverse_mass.rsqrt()
        start = energy(state.value, p, self.inverse_mass)
        chosen = State(state.q.clone(), state.grad.clone(), state.value.clone())
        chosen_energy = start.clone()
        accepted = torch.zeros(chains, dtype=torch.double, device=device)
        n_steps = torch.zeros(chains, dtype=torch.long, device=device)
        depth_reached = torch.zeros(chains, dtype=torch.long, device=device)
        diverging = torch.zeros(chains, dtype=torch.bool, device=device)
        end = (state.q, p, state.grad)
        zeros = torch.zeros(chains, dtype=torch.double, device=device)
        tree = Tree(torch.arange(chains, device=device), end, end, zeros, p)
        for depth in range(self._deepest):
            rows = tree.chains
            depth_reached[rows] += 1
            forward = numbers.uniforms(depth, rows).to(device) < 0.5
            subtree = self._subtree(tree, state, forward, depth, sizes, start, numbers)
            accepted[rows] += subtree.accepted
            n_steps[rows] += subtree.n_steps
            diverging[rows] |= subtree.diverging
            complete = ~subtree.turning & ~subtree.diverging
            # The draw moves to the newer half with probability min(1, new weight / old weight).
            odds = (subtree.log_weight - tree.log_weight).clamp(max=0).exp()
            take = complete & (numbers.uniforms(LEAVES // 2 + depth, rows).to(device) < odds)
            taken = rows[take]
            chosen.q[taken], chosen.grad[taken] = subtree.chosen.q[take], subtree.chosen.grad[take]
            chosen.value[taken], chosen_energy[taken] = subtree.chosen.value[take], subtree.energy[take]
            side = forward[:, None]
            tree.right = tuple(torch.where(side, n, o) for n, o in zip(subtree.end, tree.right, strict=True))  # type: ignore[assignment]
            tree.left = tuple(torch.where(side, o, n) for n, o in zip(subtree.end, tree.left, strict=True))  # type: ignore[assignment]
            tree.log_weight = torch.logaddexp(tree.log_weight, subtree.log_weight)
            tree.momentum_sum = tree.momentum_sum + subtree.momentum_sum
            turning = self._turns(tree.left[1], tree.right[1], tree.momentum_sum)
            growing = complete & ~turning
            if not bool(growing.any()):
                break
            if not bool(growing.all()):
                tree = tree[growing]
        return chosen, {
            "lp": chosen.value.double(),
            "energy": chosen_energy,
            "n_steps": n_steps,
            "tree_depth": depth_reached,
            "acceptance_rate": accepted / n_steps.clamp_min(1),
            "step_size": sizes,
            "diverging": diverging,
        }

    def _subtree(
        self,
        tree: Tree,
        state: State,
        forward: Tensor,
        depth: int,
        sizes: Tensor,
        start: Tensor,
        numbers: Numbers,
    ) -> "Subtree":
        """Up to 2^depth new leaves at one end of each tree; a chain stops if its subtree turns or diverges."""
        side = forward[:, None]
        q, p, grad = (torch.where(side, r, x) for r, x in zip(tree.right, tree.left, strict=True))
        value = state.value[tree.chains]
        rows, start = tree.chains, start[tree.chains]
        sizes = sizes[tree.chains]
        signed = torch.where(forward, sizes, -sizes).to(q.dtype)
        new = Subtree.empty(q, p, grad, value)
        ones = torch.ones(len(rows), dtype=torch.long, device=q.device)
        memory_p: list[Tensor] = [p] * max(1, depth)
        memory_sum: list[Tensor] = [p] * max(1, depth)
        alive = torch.ones(len(rows), dtype=torch.bool, device=q.device)
        for leaf in range(2**depth):
            q, p, grad, value = self.engine.integrate(
                (q, p, grad, value), signed, ones * alive, self.inverse_mass, chains=rows
            )
            h = energy(value, p, self.inverse_mass)
            weight = torch.where(torch.isfinite(h), start - h, -torch.inf)
            bad = weight < -self.settings.max_energy_error
            new.n_steps += alive
            new.accepted += torch.where(alive, weight.clamp(max=0).exp(), 0.0)
            new.diverging |= alive & bad
            good = alive & ~bad
            total = torch.logaddexp(new.log_weight, weight)
            uniforms = numbers.uniforms(LEAVES + 2**depth + leaf, rows).to(q.device)
            take = good & (uniforms < (weight - total).exp())
            new.choose(take, q, grad, value, h)
            new.log_weight = torch.where(good, total, new.log_weight)
            new.momentum_sum = torch.where(good[:, None], new.momentum_sum + p, new.momentum_sum)
            new.end = (q, p, grad)
            if depth:
                slot = bin(leaf >> 1).count("1")  # complete subtrees to the left of this pair of leaves
                if leaf % 2 == 0:
                    # The sum of the momenta before this leaf.
                    memory_p[slot], memory_sum[slot] = p, new.momentum_sum - p
                else:
                    ending = (~leaf & (leaf + 1)).bit_length() - 1  # number of subtrees that end at this leaf
                    turning = torch.zeros_like(alive)
                    for s in range(slot, slot - ending, -1):
                        turning |= self._turns(memory_p[s], p, new.momentum_sum - memory_sum[s])
                    new.turning |= good & turning
            alive = good & ~new.turning
            if not bool(alive.any()):
                break
        return new

    def _turns(self, left: Tensor, right: Tensor, momentum_sum: Tensor) -> Tensor:
        """Whether one end moves towards the other, by its velocity and the sum of the momenta (Betancourt 2017)."""
        along = (momentum_sum - (left + right) / 2) * self.inverse_mass
        return ((left * along).sum(-1) <= 0) | ((right * along).sum(-1) <= 0)


@dataclass
class Subtree:
    """The new half of a tree: the state chosen from it, its outer end, and its statistics."""

    chosen: State
    energy: Tensor
    end: tuple[Tensor, Tensor, Tensor]
    log_weight: Tensor
    momentum_sum: Tensor
    accepted: Tensor
    n_steps: Tensor
    turning: Tensor
    diverging: Tensor

    @classmethod
    def empty(cls, q: Tensor, p: Tensor, grad: Tensor, value: Tensor) -> "Subtree":
        """A subtree without leaves that begins at the given end of the tree."""
        zeros = torch.zeros(len(q), dtype=torch.double, device=q.device)
        no = torch.zeros(len(q), dtype=torch.bool, device=q.device)
        return cls(
            State(q.clone(), grad.clone(), value.clone()), zeros.clone(), (q, p, grad), zeros - torch.inf,
            torch.zeros_like(p), zeros.clone(), torch.zeros_like(no, dtype=torch.long), no.clone(), no.clone(),
        )  # fmt: skip

    def choose(self, take: Tensor, q: Tensor, grad: Tensor, value: Tensor, energy: Tensor) -> None:
        """Choose the given state for the chains in the mask ``take``."""
        self.chosen.q = torch.where(take[:, None], q, self.chosen.q)
        self.chosen.grad = torch.where(take[:, None], grad, self.chosen.grad)
        self.chosen.value = torch.where(take, value, self.chosen.value)
        self.energy = torch.where(take, energy, self.energy)
