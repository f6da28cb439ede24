"""LeNet: a classifier of images by two convolutions and three dense layers (LeCun, Bottou, Bengio & Haffner 1998).

A LeNet-5 with max pooling, ReLUs, wider convolutions, and logits instead of distances. Other measures use its last
hidden layer, `LeNet.features`. `posterity.inference.training.classifier` trains it; `save_lenet` and `load_lenet` store
it in a file.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from posterity.files import read_tensors, write_tensors
from posterity.models.modules import described_inputs
from posterity.validation import check_floating, check_integer, check_number, check_sizes

HIDDEN, FEATURES = 120, 84
SMALLEST = 12  # pixels of a side: two convolutions and two poolings reduce it to one
FORMAT = "posterity LeNet 1"


class LeNet(nn.Module):
    """Images (N, C, H, W) -> logits (N, classes).

    Two 5 x 5 convolutions, the first one padded by two pixels, each followed by 2 x 2 max pooling; then dense layers
    of 120, 84 and ``classes`` units.

    Args:
        classes: the number of classes.
        shape: (C, H, W) of one image, H and W of 12 or more.
        widths: channels of the two convolutions; (6, 16) in 1998.
        dropout: fraction of the units of both dense hidden layers that is dropped in training.

    Raises:
        ValueError: fewer than 2 classes, sizes or widths below 1, images of less than 12 x 12 pixels, or a dropout
            outside [0, 1).

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
            raise ValueError(f"expected shape (C, H, W) and two widths, got {tuple(shape)} and {tuple(widths)}")
        channels, height, width = shape
        if min(height, width) < SMALLEST:
            raise ValueError(f"expected images of at least {SMALLEST} x {SMALLEST} pixels, got {height} x {width}")
        check_number("dropout", dropout, "[0, 1)")
        self.classes, self.dropout = int(classes), float(dropout)
        self.shape, self.widths = (
            tuple(map(int, shape)),
            tuple(map(int, widths)),
        )  # plain integers for files
        first, second = widths
        self.convolutions = nn.Sequential(
            # Pooling before the ReLU gives the same numbers with a quarter of the work.
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
        """The activations of the last hidden layer, (N, 84), all of them 0 or more.

        Raises:
            ValueError: images of another shape or dtype.
        """
        check_floating("images", x)
        if tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"expected images of shape (N, {wanted}), got {tuple(x.shape)}")
        with described_inputs(self, x):
            features: Tensor = self.hidden(self.convolutions(x))
        return features

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x))
        return logits


def save_lenet(net: LeNet, path: str | Path) -> Path:
    """Write settings and weights without pickle; an existing file is replaced after the new one is complete.

    Raises:
        ValueError: another network.
    """
    if type(net) is not LeNet:
        raise ValueError(f"expected net to be a LeNet, got {type(net).__name__}")
    settings = {"classes": net.classes, "shape": net.shape, "widths": net.widths, "dropout": net.dropout}
    return write_tensors({"format": FORMAT, "settings": settings, "state": net.state_dict()}, path)


def load_lenet(path: str | Path) -> LeNet:
    """The network that `save_lenet` wrote, with equal weights, on the CPU and in evaluation mode.

    Raises:
        ValueError: the file is damaged or holds something else.
        FileNotFoundError: the file does not exist.
    """
    content = read_tensors(path, "a LeNet", device="cpu")
    if content.get("format") != FORMAT:
        raise ValueError(f"expected the format {FORMAT!r} in {path}, got {content.get('format')!r:.60}")
    try:
        with torch.device("meta"):  # draws no initial weights: the caller's random state is unchanged
            net = LeNet(**content["settings"])
        net.load_state_dict(content["state"], assign=True)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected a complete LeNet in {path}, got a damaged one: {error}") from error
    return net.requires_grad_(True).eval()
