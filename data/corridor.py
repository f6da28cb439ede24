r"""A ball in a corridor that forks: sequences of frames whose distribution is known exactly.

The ball moves to the right by one pixel in each step and starts in the middle row. In the first frame one of the first
pixels of the top row is lit. Its column is the cue c, which sets the probability that the ball takes the upper branch
at the junction. At step t the ball is at

$$(x_t, y_t) = (t, y_b(t) + a_t) + \sigma \epsilon_t, \quad \epsilon_t \sim N(0, 1)^2,$$

where $y_b$ is the row of the chosen path b and $a_t$ the sum of the player's moves up to step t. The next position
given the positions so far is therefore a mixture over the paths, whose weights are the posterior probabilities of the
paths (`Corridor.next_position`). A second junction splits each branch again. With ``obstacle``, a block waits in each
branch, and a ball that meets it ends the episode: the player has to move the ball past the block.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from posterity.random import as_generator
from posterity.validation import check_flag, check_floating, check_integer, check_number, check_tensor, shown

MOVES = (-1.0, 0.0, 1.0)
"""Rows by which each action moves the ball: up, stay, down."""
REACH = 2.0  # the walls: the player cannot move the ball further than this from its path
BLOCK = 1.0  # half of the height of an obstacle; a ball whose row is closer to it collides
WHOLE = (torch.int64, torch.int32)
BLOB = 0.6  # width of the picture of a ball, in pixels
DARK = 1e-3  # of the brightest pixel; darker ones count as that


@dataclass(frozen=True, eq=False)
class Episodes:
    """N sequences of T steps.

    Attributes:
        cue: (N,), whole numbers from 0.
        path: (N,), the index of the path in `Corridor.paths`.
        positions: (N, T, 2), x and y in pixels.
        actions: (N, T), indices of `MOVES`; the action of step t moves the ball between the steps t and t + 1.
        obstacle: (N,), the row of the obstacle relative to the path; NaN without an obstacle.
        rewards: (N, T), 1 in the last step of a ball that arrives, otherwise 0.
        done: (N, T), whether the episode ends with this step.
        mask: (N, T), whether the step belongs to the episode: all steps up to and with the first that is done.
    """

    cue: Tensor
    path: Tensor
    positions: Tensor
    actions: Tensor
    obstacle: Tensor
    rewards: Tensor
    done: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.cue)


@dataclass(frozen=True)
class Corridor:
    """A corridor of ``size`` by ``size`` pixels, crossed in ``size`` steps.

    Args:
        up: for each cue the probability of the upper branch at the first junction.
        size: width and height of a frame, in pixels.
        junction: the last column in which all paths agree.
        spread: distance in rows between the middle and each branch.
        turn: number of steps from the middle to a branch.
        jitter: standard deviation of each coordinate, in pixels.
        second: None, or the probability of the upper branch at a second junction, whatever the cue.
        second_junction: its column; its branches are half as far apart.
        obstacle: whether a block has to be avoided, in the column before the last.

    Raises:
        ValueError: probabilities outside [0, 1], junctions outside the corridor or in the wrong order, a spread that
            leaves the frame, or a jitter that is not above 0.

    >>> corridor = Corridor()
    >>> episodes = corridor.simulate(4, seed=0)
    >>> corridor.frames(episodes).shape, round(corridor.entropy(0), 3)
    (torch.Size([4, 16, 1, 16, 16]), -5.596)
    """

    up: tuple[float, ...] = (0.2, 0.5, 0.8)
    size: int = 16
    junction: int = 8
    spread: float = 4.0
    turn: int = 2
    jitter: float = 0.2
    second: float | None = None
    second_junction: int = 12
    obstacle: bool = False

    def __post_init__(self) -> None:
        check_integer("size", self.size, 4)
        if not isinstance(self.up, tuple) or not 0 < len(self.up) <= self.size:
            raise ValueError(f"expected up to be a tuple of probabilities, one for each cue, got {self.up!r}")
        for probability in self.up:
            check_number("up", probability, "[0, 1]")
        check_integer("turn", self.turn, 1)
        ends = self.size - 1 - self.turn  # the last junction whose branches are complete within the frame
        check_integer("second_junction", self.second_junction, 0, None if self.second is None else ends)
        last = ends if self.second is None else self.second_junction - self.turn
        check_integer("junction", self.junction, 0, last)
        check_number("jitter", self.jitter, "(0, inf)")
        check_flag("obstacle", self.obstacle)
        if self.second is not None:
            check_number("second", self.second, "[0, 1]")
        check_number("spread", self.spread, "(0, inf)")
        reach = self.spread * (1.0 if self.second is None else 1.5) + (REACH if self.obstacle else 0.0)
        if reach > (self.size - 1) / 2:
            raise ValueError(f"expected spread to keep all paths in a frame of {self.size} rows, got {self.spread}")

    @property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The branches of each path: -1 for the upper and 1 for the lower one, at each junction."""
        return tuple(product((-1, 1), repeat=1 if self.second is None else 2))

    @property
    def rows(self) -> Tensor:
        """The row of each path at each step without jitter or moves, (paths, T), float64."""
        step = torch.arange(self.size, dtype=torch.float64)

        def turned(junction: int) -> Tensor:
            return ((step - junction) / self.turn).clamp(0, 1)

        spreads = [self.spread * turned(self.junction), 0.5 * self.spread * turned(self.second_junction)]
        middle = torch.full_like(step, (self.size - 1) / 2)
        return torch.stack(
            [sum((side * way for side, way in zip(path, spreads, strict=False)), middle) for path in self.paths]
        )

    def path_probabilities(self, cue: Tensor) -> Tensor:
        """The probability of each path given the cue (N,), shape (N, paths), float64.

        Raises:
            ValueError: a cue that does not exist.
        """
        self._check_cue(cue)
        first = torch.tensor(self.up, dtype=torch.float64)[cue]
        at = [first] if self.second is None else [first, torch.full_like(first, self.second)]
        chosen = [
            torch.stack([p if side < 0 else 1 - p for side, p in zip(path, at, strict=True)]).prod(0)
            for path in self.paths
        ]
        return torch.stack(chosen, -1)

    def simulate(
        self,
        n: int,
        *,
        cue: int | None = None,
        actions: Tensor | None = None,
        seed: int | torch.Generator,
    ) -> Episodes:
        """n episodes; positions are float32.

        Args:
            n: the number of episodes.
            cue: the cue of all of them; None: drawn with equal probabilities.
            actions: (n, T), indices of `MOVES`; None: without an obstacle no moves, with one random moves.
            seed: an int, or a generator, whose state advances.

        Raises:
            ValueError: an unknown cue, or actions of another shape or kind.
        """
        random = as_generator(seed)
        chances = self._chances(n, cue, random)
        if actions is None:
            drawn = torch.randint(len(MOVES), (n, self.size), generator=random)
            actions = drawn if self.obstacle else torch.ones_like(drawn)
        return self._episodes(*chances, actions)

    def play(
        self, policy: Callable[[Tensor], Tensor], n: int, *, cue: int | None = None, seed: int | torch.Generator
    ) -> Episodes:
        """n episodes whose actions ``policy`` chooses: a function of the frames (n, 1, size, size) of a step.

        It returns the actions (n,) of that step and is called once for each of the T steps, also for balls that have
        collided. With the same seed, all policies meet the same cues, paths, obstacles and jitter.

        Args:
            policy: the player.
            n, cue, seed: as in `simulate`.

        Raises:
            ValueError: as `simulate`, or actions that are not of shape (n,) or do not exist.
        """
        if not callable(policy):
            raise ValueError(f"expected policy to be a function of frames, got {shown(policy)}")
        chances = self._chances(n, cue, as_generator(seed))
        actions = torch.ones(n, self.size, dtype=torch.long)
        for step in range(self.size):
            chosen = policy(self.frames(self._episodes(*chances, actions))[:, step])
            if not isinstance(chosen, Tensor) or tuple(chosen.shape) != (n,) or chosen.dtype not in WHOLE:
                raise ValueError(f"expected policy to return whole numbers of shape ({n},), got {shown(chosen)}")
            actions[:, step] = chosen
        return self._episodes(*chances, actions)

    def _chances(self, n: int, cue: int | None, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cues, paths and obstacles (n,) and jitter (n, T, 2) in pixels: what is random and no action changes."""
        check_integer("n", n, 1)
        if cue is None:
            cues = torch.randint(len(self.up), (n,), generator=random)
        else:
            cues = torch.full((n,), check_integer("cue", cue, 0, len(self.up) - 1))
        path = torch.multinomial(self.path_probabilities(cues), 1, generator=random)[:, 0]
        obstacle = torch.full((n,), math.nan)
        if self.obstacle:
            obstacle = REACH * (2 * torch.rand(n, generator=random) - 1)
        return cues, path, obstacle, self.jitter * torch.randn(n, self.size, 2, generator=random, dtype=torch.float64)

    def _episodes(self, cues: Tensor, path: Tensor, obstacle: Tensor, jitter: Tensor, actions: Tensor) -> Episodes:
        n = len(cues)
        moved = self.moved(actions, n)
        mean = torch.stack([torch.arange(self.size).expand(n, -1).double(), self.rows[path] + moved], -1)
        done = torch.zeros(n, self.size, dtype=torch.bool)
        if self.obstacle:
            done[:, -2] = (moved[:, -2] - obstacle).abs() < BLOCK
        done[:, -1] = True
        mask = (done.cumsum(1) - done.long()) == 0
        rewards = torch.zeros(n, self.size)
        rewards[:, -1] = mask[:, -1].float()
        return Episodes(cues, path, (mean + jitter).float(), actions, obstacle, rewards, done & mask, mask)

    def moved(self, actions: Tensor, n: int) -> Tensor:
        """The rows by which the player has moved the ball at each step, (n, T), at most `REACH` from the path.

        Raises:
            ValueError: actions that are not indices of `MOVES`, or of another shape than (n, T).
        """
        check_tensor("actions", actions)
        if tuple(actions.shape) != (n, self.size) or actions.dtype not in WHOLE:
            raise ValueError(f"expected actions of shape ({n}, {self.size}), whole numbers, got {tuple(actions.shape)}")
        if not bool(((actions >= 0) & (actions < len(MOVES))).all()):
            raise ValueError(
                f"expected actions from 0 to {len(MOVES) - 1}, got {int(actions.min())} to {int(actions.max())}"
            )
        offset, offsets = torch.zeros(n, dtype=torch.float64), []
        for move in torch.tensor(MOVES, dtype=torch.float64)[actions].unbind(1):
            offsets.append(offset)
            offset = (offset + move).clamp(-REACH, REACH)
        return torch.stack(offsets, 1)

    def path_posterior(self, positions: Tensor, cue: Tensor, moved: Tensor | None = None) -> Tensor:
        """The probability of each path given the positions (N, t, 2) so far and the cue (N,): (N, paths), float64.

        Raises:
            ValueError: other shapes, more than T steps, or an unknown cue.
        """
        steps = self._steps(positions, cue)
        rows = self._rows(len(cue), moved)[..., :steps]
        off = (positions[:, None, :, 1].double() - rows) / self.jitter
        return (self.path_probabilities(cue).log() - 0.5 * off.square().sum(-1)).softmax(-1)

    def next_position(self, positions: Tensor, cue: Tensor, moved: Tensor | None = None) -> MixtureSameFamily:
        """The exact distribution of the position at step t given the steps before, with one component for each path.

        Args:
            positions: (N, t, 2), the positions so far; t may be 0.
            cue: (N,).
            moved: (N, T) or longer than t, the moves of the player as `moved` returns them; None: none.

        Raises:
            ValueError: other shapes, all T steps, or an unknown cue.
        """
        steps = self._steps(positions, cue)
        if steps == self.size:
            raise ValueError(f"expected positions of fewer than {self.size} steps, got {steps}")
        rows = self._rows(len(cue), moved)[..., steps]
        mean = torch.stack([torch.full_like(rows, steps), rows], -1)
        component = Independent(Normal(mean, torch.full_like(mean, self.jitter)), 1)
        return MixtureSameFamily(Categorical(probs=self.path_posterior(positions, cue, moved)), component)

    def log_prob(self, positions: Tensor, cue: Tensor, moved: Tensor | None = None) -> Tensor:
        """log p of each step given the steps before and the cue, (N, T), in nats; positions (N, T, 2) are in pixels."""
        steps = self._steps(positions, cue)
        rows = self._rows(len(cue), moved)[..., :steps]
        mean = torch.stack([torch.arange(steps).double().expand_as(rows), rows], -1)
        density = Normal(mean, self.jitter).log_prob(positions[:, None].double()).sum(-1)  # (N, paths, steps)
        joint = (self.path_probabilities(cue).log()[..., None] + density.cumsum(-1)).logsumexp(1)
        return joint.diff(dim=1, prepend=torch.zeros_like(joint[:, :1]))

    def entropy(self, cue: int) -> float:
        r"""The entropy of all steps given the cue, in nats.

        It is T times that of the jitter and that of the path, minus the information about the path that the positions
        do not contain; that is computed from 4,096 draws, and below 1e-9 for paths a few widths apart.
        """
        check_integer("cue", cue, 0, len(self.up) - 1)
        jitter = self.size * (1 + math.log(2 * math.pi) + 2 * math.log(self.jitter))
        chosen = self.path_probabilities(torch.tensor([cue]))
        episodes = self.simulate(4096, cue=cue, actions=torch.ones(4096, self.size, dtype=torch.long), seed=0)
        left = Categorical(probs=self.path_posterior(episodes.positions, episodes.cue)).entropy().mean()
        return jitter + float(Categorical(probs=chosen).entropy()) - float(left)

    def frames(self, episodes: Episodes) -> Tensor:
        """The pictures (N, T, 1, size, size) of all steps, float32 in [0, 1]; rows are y, columns are x.

        Raises:
            ValueError: something else than `Episodes`.
        """
        if not isinstance(episodes, Episodes):
            raise ValueError(f"expected episodes to be Episodes, got {type(episodes).__name__}")
        pictures = self.draw(episodes.positions)
        cue_row = torch.nn.functional.one_hot(episodes.cue, self.size).to(pictures)
        pictures[:, 0, 0, 0] = torch.maximum(pictures[:, 0, 0, 0], cue_row)
        if self.obstacle:
            rows = self.rows[:, -2] + episodes.obstacle[:, None].double()
            pixel = torch.arange(self.size, dtype=torch.float64)
            block = ((pixel - rows[..., None]).abs() <= BLOCK).any(1).to(pictures)
            pictures[..., -2] = torch.maximum(pictures[..., -2], 0.5 * block[:, None, None])
        return pictures

    def draw(self, positions: Tensor) -> Tensor:
        """A ball at each of the positions (..., 2), as pictures (..., 1, size, size), float32.

        Raises:
            ValueError: positions of another shape.
        """
        check_floating("positions", positions)
        if positions.shape[-1:] != (2,):
            raise ValueError(f"expected positions of shape (..., 2), got {tuple(positions.shape)}")
        pixel = torch.arange(self.size, dtype=torch.float32)
        at = positions.float()[..., None]
        across, down = (torch.exp(-0.5 * ((pixel - at[..., side, :]) / BLOB) ** 2) for side in (0, 1))
        return (down[..., :, None] * across[..., None, :])[..., None, :, :]

    def locate(self, pictures: Tensor) -> Tensor:
        """The position (..., 2) of the ball in pictures (..., 1, size, size), in pixels.

        The logarithms of the brightest pixel and its two neighbours in a row or column lie on a parabola, whose vertex
        is the position. This is exact for pictures of `draw` with the ball inside the frame. A cue or an obstacle that
        is brighter than the ball is located instead.

        Raises:
            ValueError: pictures of another shape.
        """
        check_floating("pictures", pictures)
        if pictures.shape[-3:] != (1, self.size, self.size):
            shape = f"(..., 1, {self.size}, {self.size})"
            raise ValueError(f"expected pictures of shape {shape}, got {tuple(pictures.shape)}")
        flat = pictures.reshape(-1, self.size, self.size)
        peak, place = flat.flatten(1).max(1)
        light = flat.clamp_min(DARK * peak[:, None, None].clamp_min(1e-12)).log()
        item, row, column = torch.arange(len(flat)), place // self.size, place % self.size
        found = []
        for middle, across in ((column, light[item, row]), (row, light[item, :, column])):
            inner = middle.clamp(1, self.size - 2)
            low, top, high = (across[item, inner + shift] for shift in (-1, 0, 1))
            bend = (low + high - 2 * top).clamp_max(-1e-6)
            found.append(inner + (0.5 * (low - high) / bend).clamp(-1.5, 1.5))
        return torch.stack(found, -1).reshape(*pictures.shape[:-3], 2)

    def _check_cue(self, cue: Tensor) -> None:
        check_tensor("cue", cue)
        known = cue.ndim == 1 and cue.dtype in WHOLE and bool(((cue >= 0) & (cue < len(self.up))).all())
        if not known:
            wanted = f"whole numbers from 0 to {len(self.up) - 1}, of shape (N,)"
            raise ValueError(f"expected cue to be {wanted}, got {shown(cue)}")

    def _steps(self, positions: Tensor, cue: Tensor) -> int:
        check_floating("positions", positions)
        self._check_cue(cue)
        if positions.ndim != 3 or positions.shape[::2] != (len(cue), 2) or positions.shape[1] > self.size:
            wanted = f"({len(cue)}, steps, 2) with at most {self.size} steps"
            raise ValueError(f"expected positions of shape {wanted}, got {tuple(positions.shape)}")
        return positions.shape[1]

    def _rows(self, n: int, moved: Tensor | None) -> Tensor:
        """Rows of all paths with the player's moves, (N, paths, T)."""
        rows = self.rows.expand(n, -1, -1)
        if moved is None:
            return rows
        check_floating("moved", moved)
        if tuple(moved.shape) != (n, self.size):
            raise ValueError(f"expected moved of shape ({n}, {self.size}), got {tuple(moved.shape)}")
        return rows + moved[:, None].double()
