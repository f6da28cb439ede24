"""A recurrent layer that runs for all draws of a posterior at once.

`Recurrence` is an LSTM or GRU of one layer. `posterity.models.recurrent` builds a mixture density network on it; in a
network of your own it replaces ``torch.nn.LSTM`` where `posterity.inference` evaluates many draws or members.
"""

import torch
from torch import Tensor, nn

from posterity.models.chunks import untransformed
from posterity.validation import check_choice, check_integer, shown, shown_shape

GATES = {"lstm": 4, "gru": 3}
State = tuple[Tensor, ...] | None  # of an LSTM output and cell, of a GRU the output: (N, width) each


class Recurrence(nn.Module):
    """A recurrent layer, (N, T, inputs) -> (N, T, width), as ``torch.nn.LSTM`` and ``torch.nn.GRU``.

    torch's own layers have no batching rule: under ``vmap`` they run draw by draw. Under ``vmap``, while tracing or
    compiling, and on other devices than a CPU, this layer is a loop over steps of matrix products, so that all draws
    and members run at once. Otherwise it calls torch's own operation, which is faster.

    Args:
        cell: "lstm" (Hochreiter & Schmidhuber 1997) or "gru" (Cho et al. 2014).
        inputs: width of the inputs.
        width: width of the layer.

    Raises:
        ValueError: an unknown cell; when called, x or a state of another shape or dtype than that of the weights.
    """

    def __init__(self, cell: str, inputs: int, width: int) -> None:
        super().__init__()
        check_choice("cell", cell, sorted(GATES))
        check_integer("inputs", inputs, 1)
        check_integer("width", width, 1)
        self.cell, self.width = cell, width
        self.offset: Tensor
        self.input = nn.Linear(inputs, GATES[cell] * width)
        self.repeat = nn.Linear(width, GATES[cell] * width)
        for value in self.parameters():
            nn.init.uniform_(value, -(width**-0.5), width**-0.5)
        # Not in the biases: members of an ensemble and draws of a prior start from other biases.
        self.register_buffer("offset", torch.zeros(GATES[cell] * width))

    def forward(self, x: Tensor, state: State = None) -> tuple[Tensor, State]:
        """The outputs of all steps, and the state after the last one, which the next call takes."""
        self._check(x, state)
        if state is None:
            zero = x.new_zeros(len(x), self.width)
            state = (zero, zero) if self.cell == "lstm" else (zero,)
        weights = (self.input.weight, self.repeat.weight, self.input.bias + self.offset, self.repeat.bias)
        tensors = (x, *state, *weights)
        # On other devices torch's operation has no second derivative.
        if x.is_cpu and all(type(t) in (Tensor, nn.Parameter) for t in tensors) and untransformed(*tensors):
            return self._whole(x, state, weights)
        found = []
        for step in nn.functional.linear(x, self.input.weight, weights[2]).unbind(1):
            state = self._lstm(step, *state) if self.cell == "lstm" else self._gru(step, *state)
            found.append(state[0])
        return torch.stack(found, 1), state

    def _check(self, x: Tensor, state: State) -> None:
        inputs, dtype = self.input.in_features, self.input.weight.dtype
        if not isinstance(x, Tensor) or x.ndim != 3 or x.shape[2] != inputs or not x.shape[1]:
            raise ValueError(f"expected x of shape (N, T, {inputs}), T of 1 or more, got {shown_shape(x)}")
        if x.dtype != dtype:
            raise ValueError(f"expected x of dtype {dtype}, as the weights, got {x.dtype}")
        if state is None:
            return
        parts, wanted = 1 + (self.cell == "lstm"), (len(x), self.width)
        if (
            not isinstance(state, tuple)
            or len(state) != parts
            or any(not isinstance(part, Tensor) or part.shape != wanted or part.dtype != dtype for part in state)
        ):
            got = [shown(part) for part in state] if isinstance(state, tuple) else type(state).__name__
            raise ValueError(f"expected state to be {parts} tensor(s) of shape {wanted} and dtype {dtype}, got {got}")

    def _whole(self, x: Tensor, state: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> tuple[Tensor, State]:
        """All steps by one operation of torch, whose layers have the same gates in the same order."""
        settings = (weights, True, 1, 0.0, self.training, False, True)  # biases, 1 layer, no dropout; batch first
        if self.cell == "lstm":
            outputs, *last = torch.lstm(x, [part[None] for part in state], *settings)
        else:
            outputs, *last = torch.gru(x, state[0][None], *settings)
        return outputs, tuple(part[0] for part in last)

    @torch.no_grad()
    def remember(self, span: int) -> None:
        """Open the gates for memories of 2 to ``span`` steps (Tallec & Ollivier 2018, arXiv:1804.11188, equation 16).

        A gate with bias log(t - 1) keeps a value for about t steps. t is drawn uniformly by torch's global generator;
        log(t - 1) is a buffer that is added to the trained biases.

        Raises:
            ValueError: a span below 3.
        """
        check_integer("span", span, 3)
        kept = (1 + (span - 2) * torch.rand(self.width)).log().to(self.offset)
        if self.cell == "lstm":
            self.offset[: 2 * self.width] = torch.cat([-kept, kept])
        else:
            self.offset[self.width : 2 * self.width] = kept

    def _lstm(self, given: Tensor, output: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
        enter, forget, new, leave = (given + self.repeat(output)).chunk(4, -1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell.tanh(), cell

    def _gru(self, given: Tensor, output: Tensor) -> tuple[Tensor, ...]:
        reset, keep, new = given.chunk(3, -1)
        reset_again, keep_again, new_again = self.repeat(output).chunk(3, -1)
        proposed = (new + (reset + reset_again).sigmoid() * new_again).tanh()
        kept = (keep + keep_again).sigmoid()
        return ((1 - kept) * proposed + kept * output,)
