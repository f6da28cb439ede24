"""LeNet: images to classes by two convolutions and three dense layers (LeCun, Bottou, Bengio & Haffner 1998).

As LeNet-5, in today's dress: max pooling, ReLU, wider convolutions, logits instead of distances. Its last hidden layer
is what other measures look at: `LeNet.features`. `posterity.inference.training.classifier` trains it; `save_lenet` and
`load_lenet` keep it in a file.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from posterity.files import read_tensors, write_tensors
from posterity.models.modules import named_misfits
from posterity.validation import check_floating, check_integer, check_number, check_sizes

HIDDEN, FEATURES = 120, 84
LEAST = 12  # pixels a side: one is left where two convolutions and two poolings end
FORMAT = "posterity LeNet 1"


class LeNet(nn.Module):
    """Images (N, C, H, W) -> logits (N, classes).

    Convolutions of 5 x 5, the first one with a border of two pixels, each halved by max pooling; then 120, 84 and
    ``classes``.

    Args:
        classes: how many there are to tell apart.
        shape: (C, H, W) of one image, H and W of 12 or more.
        widths: channels of both convolutions; of 1998, (6, 16).
        dropout: share of both dense hidden layers that is dropped in training.

    Raises:
        ValueError: fewer than 2 classes, a size or width that cannot be, a smaller image, or dropout outside [0, 1).

    >>> LeNet()(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        classes: int = 10,
        shape: tuple[int, int, int] = (1, 28, 28),
        *,
        widths: tuple[int, int] = (16, 32),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer("classes", classes, 2)
        for name, sizes in (("shape", shape), ("widths", widths)):
            check_sizes(name, sizes)
        if len(shape) != 3 or len(widths) != 2:
            raise ValueError(f"expected a shape (C, H, W) and two widths, got {tuple(shape)} and {tuple(widths)}")
        channels, height, width = shape
        if min(height, width) < LEAST:
            raise ValueError(f"expected images of at least {LEAST} x {LEAST} pixels, got {height} x {width}")
        check_number("dropout", dropout, "[0, 1)")
        self.classes, self.dropout = int(classes), float(dropout)
        self.shape, self.widths = tuple(map(int, shape)), tuple(map(int, widths))  # plain, as a file keeps them
        first, second = widths
        self.convolutions = nn.Sequential(
            # Pooled before the ReLU: the same numbers from a quarter of the work.
            nn.Sequential(nn.Conv2d(channels, first, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
            nn.Sequential(nn.Conv2d(first, second, 5), nn.MaxPool2d(2), nn.ReLU()),
            nn.Flatten(),
        )
        left = second * ((height // 2 - 4) // 2) * ((width // 2 - 4) // 2)
        self.hidden = nn.Sequential(
            nn.Linear(left, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, FEATURES), nn.ReLU()
        )
        self.last = nn.Sequential(nn.Dropout(dropout), nn.Linear(FEATURES, classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a CPU

    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer (N, 84), none of it below zero. Raises ``ValueError`` for images of another shape."""
        check_floating("images", x)
        if tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"expected images of shape (N, {wanted}), got {tuple(x.shape)}")
        with named_misfits(self, x):
            found: Tensor = self.hidden(self.convolutions(x))
        return found

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        return logits


def save_lenet(net: LeNet, path: str | Path) -> Path:
    """Write settings and weights, without pickle: to a temporary name first, so that an old file is whole until then.

    Raises ``ValueError`` for another network.
    """
    if type(net) is not LeNet:
        raise ValueError(f"expected a LeNet, got {type(net).__name__}")
    settings = {"classes": net.classes, "shape": net.shape, "widths": net.widths, "dropout": net.dropout}
    return write_tensors({"format": FORMAT, "settings": settings, "state": net.state_dict()}, path)


def load_lenet(path: str | Path) -> LeNet:
    """What `save_lenet` wrote, bit for bit, on the CPU and in evaluation.

    Raises ``ValueError`` for a file that is damaged or something else, ``FileNotFoundError`` where there is none.
    """
    content = read_tensors(path, "a LeNet", device="cpu")
    if content.get("format") != FORMAT:
        raise ValueError(f"expected a file of format {FORMAT!r} in {path}, got something else")
    try:
        with torch.device("meta"):  # no weights are drawn: the caller's random numbers stay as they are
            net = LeNet(**content["settings"])
        net.load_state_dict(content["state"], assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected a whole LeNet in {path}, got one that is damaged: {error}") from error
    return net.requires_grad_(True).eval()
