"""`Completer`: many completions of a picture with a hidden part; pictures unlike those of training are refused."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from posterity.data.masked import masked_inputs
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial.sampling import generate
from posterity.models.completion import CompletionGenerator
from posterity.models.probabilistic_pca import ProbabilisticPCA
from posterity.random import as_generator
from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape

FORMAT = "posterity completer 1"
BATCH = 64


class Completer:
    """An ensemble of trained generators, a factor of its spread, and a model that knows the pictures of training.

    Args:
        generators: one or several trained `posterity.models.completion.CompletionGenerator`; completions come from all
            of them in turn, so that their spread includes what they disagree about.
        spread: factor of the differences between a completion and the mean completion, fitted on pictures that the
            generators were not trained on, so that intervals hold as many pixels as they should.
        known: a model of whole pictures as rows (H W,), from -1 to 1.
        limit: largest `posterity.models.ProbabilisticPCA.distance` of the visible pixels from this model; pictures
            beyond are refused (for example twice the largest distance of new pictures of the right kind).

    Raises:
        ValueError: arguments of other types or sizes, or numbers that are not above 0.
    """

    def __init__(
        self, generators: Sequence[CompletionGenerator], *, spread: float = 1.0, known: ProbabilisticPCA, limit: float
    ) -> None:
        if not isinstance(generators, Sequence) or not all(isinstance(one, CompletionGenerator) for one in generators):
            raise ValueError(f"expected generators to be a list of CompletionGenerator, got {shown(generators)}")
        if not generators:
            raise ValueError("expected generators to have at least one member, got none")
        if any(one.mean.shape != generators[0].mean.shape for one in generators):
            raise ValueError(f"expected generators of one size, got {[tuple(one.mean.shape) for one in generators]}")
        if not isinstance(known, ProbabilisticPCA):
            raise ValueError(f"expected known to be a ProbabilisticPCA, got {shown(known)}")
        if len(known.mean) != generators[0].mean.numel():
            raise ValueError(f"expected known of {generators[0].mean.numel()} pixels, got {len(known.mean)}")
        self.generators, self.known = [one.eval() for one in generators], known
        self.spread = check_number("spread", spread, "(0, inf)")
        self.limit = check_number("limit", limit, "(0, inf)")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the pictures."""
        height, width = self.generators[0].mean.shape
        return height, width

    def complete(
        self, images: Tensor, hidden: Tensor, *, draws: int = 100, seed: int = 0, check: bool = True
    ) -> Tensor:
        """Completions (draws, N, 1, H, W) of images (N, 1, H, W) from -1 to 1, whose ``hidden`` pixels are not used.

        Values of hidden pixels may lie a little outside of -1 to 1.

        Args:
            images: grey pictures; hidden pixels may be NaN.
            hidden: boolean (H, W), the same pixels for all pictures.
            draws: number of completions of each picture; their mean is the expected completion.
            seed: of the latent numbers.
            check: whether pictures that are unlike those of training are refused.

        Raises:
            ValueError: images of another size, visible pixels that are NaN or outside of -1 to 1, a mask that hides all
                pixels or none, or pictures that are unlike those of training.
        """
        hidden = self._checked_mask(hidden)
        images = self._checked(images, hidden)
        check_integer("draws", draws, 2)
        if check:
            distance = self.unlikeness(images, hidden)
            if not float(distance.max()) <= self.limit:
                worst = int(distance.argmax())
                raise ValueError(
                    f"expected images like those of training, got image {worst} with a distance of "
                    f"{float(distance[worst]):.3g}, above the limit of {self.limit:.3g}: is it a picture of "
                    "the same kind?"
                )
        random = as_generator(seed)
        masks = hidden[None, None].expand(len(images), 1, *hidden.shape)
        found = torch.empty(draws, len(images), 1, *hidden.shape)
        for index in range(draws):
            member = self.generators[index % len(self.generators)]
            z = torch.randn(len(images), member.latent, generator=random)
            found[index] = generate(member, masked_inputs(images, masks, z), batch=BATCH)[:, :1]
        mean = found.mean(0)
        return torch.where(hidden, mean + self.spread * (found - mean), images)

    def unlikeness(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Squared Mahalanobis distance for each visible pixel, `ProbabilisticPCA.distance`, (N,).

        About 1 on average for pictures that the model describes, larger for others. It does not recognise content: a
        face upside down may have as small a distance as an upright one.
        """
        hidden = self._checked_mask(hidden)
        rows = self._checked(images, hidden).flatten(1).double()
        return self.known.distance(rows, ~hidden.flatten())

    def save(self, path: str | Path) -> Path:
        """Write everything to one file, without pickle; an old file is replaced at the end."""
        content = {
            "format": FORMAT, "spread": self.spread, "limit": self.limit, "members": [
                {"latent": one.latent, "width": one.width, "weights": one.state_dict()} for one in self.generators
            ],
            "mean": self.known.mean, "loadings": self.known.loadings, "noise": self.known.noise,
        }  # fmt: skip
        return write_tensors(content, path)

    @classmethod
    def load(cls, path: str | Path) -> "Completer":
        """The completer that `save` stored.

        Raises:
            ValueError: the file is damaged or holds something else.
        """
        content = read_tensors(path, "a completer", format=FORMAT)
        generators = []
        for stored in content["members"]:
            one = CompletionGenerator(stored["weights"]["mean"], latent=stored["latent"], width=stored["width"])
            one.load_state_dict(stored["weights"])
            generators.append(one)
        known = ProbabilisticPCA(content["mean"], content["loadings"], content["noise"])
        return cls(generators, spread=content["spread"], known=known, limit=content["limit"])

    def __repr__(self) -> str:
        count = f"{len(self.generators)} generator{'s' * (len(self.generators) > 1)}"
        return f"Completer({count}, {self.size[0]} x {self.size[1]} pixels, spread {self.spread:.2f})"

    def _checked_mask(self, hidden: Tensor) -> Tensor:
        height, width = self.size
        if not isinstance(hidden, Tensor) or hidden.dtype != torch.bool or hidden.shape != (height, width):
            raise ValueError(f"expected hidden to be a boolean tensor ({height}, {width}), got {shown(hidden)}")
        if bool(hidden.all()) or not bool(hidden.any()):
            raise ValueError(f"expected hidden to hide some pixels, not all, got {int(hidden.sum())} of them")
        return hidden

    def _checked(self, images: Tensor, hidden: Tensor) -> Tensor:
        """The images, with hidden pixels set to 0."""
        check_floating("images", images)
        if images.ndim != 4 or images.shape[1:] != (1, *self.size) or not len(images):
            raise ValueError(
                f"expected images of shape (N, 1, {self.size[0]}, {self.size[1]}), got {shown_shape(images)}: see "
                "Images.resized and Images.grey"
            )
        seen = images.detach().float().where(~hidden, torch.zeros(()))
        check_finite("images", seen)
        if float(seen.abs().max()) > 1:
            raise ValueError(f"expected images from -1 to 1, got {float(seen.min()):g} to {float(seen.max()):g}")
        return seen
