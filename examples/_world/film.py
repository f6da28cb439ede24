"""The dreams as an animation."""

from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from _world.positions import FORK, WALL
from posterity.files import replacing

LABELS = {"real": "real", "shared": "dreams", "per_dimension": "dreams, weights\nper dimension"}
SHOWN = 12  # episodes in each row


def draw_film(work: Path, out: Path) -> Path:
    """Real episodes, dreams, and dreams of a network with weights per dimension; ghosts have a red frame."""
    names = {"real": "real", "shared": "dreams-shared", "per_dimension": "dreams-per_dimension"}
    films = {kind: np.load(work / f"{name}.npz", allow_pickle=False) for kind, name in names.items()}
    figure = Figure(figsize=(11, 3.1), dpi=80)
    FigureCanvasAgg(figure)
    figure.subplots_adjust(left=0.13, right=0.99, top=0.88, bottom=0.02, hspace=0.06, wspace=0.06)
    axes, images = figure.subplots(len(films), SHOWN), []
    for row, kind in zip(axes, films, strict=True):
        row[0].set_ylabel(LABELS[kind], rotation=0, ha="right", va="center", fontsize=10, labelpad=8)
        for ax in row:
            images.append(ax.imshow(np.zeros((FORK.size, FORK.size)), cmap="gray", vmin=0, vmax=1))
            ax.set(xticks=[], yticks=[])
    title = figure.suptitle("")
    strange = np.concatenate([np.zeros(SHOWN, bool)] + [films[kind]["ghost"][:SHOWN] for kind in list(films)[1:]])
    pictures = np.concatenate([film["pictures"][:SHOWN] for film in films.values()])[:, :, 0]

    def show(step: int) -> None:
        step = min(step, FORK.size - 2)
        for image, frames, ghost in zip(images, pictures, strange, strict=True):
            image.set_data(frames[step])
            for side in image.axes.spines.values():
                side.set(
                    color="C3" if ghost and step >= WALL - 1 else "0.6",
                    linewidth=3 if ghost and step >= WALL - 1 else 0.5,
                )
        title.set_text(
            f"step {step + 1}" + ("" if step < WALL - 1 else ": after the junction (red: no such episode exists)")
        )

    film = FuncAnimation(figure, show, frames=FORK.size + 5, interval=350)
    path = out / "world-dreams.gif"
    with replacing(path) as temporary:
        named = temporary.with_suffix(".gif")  # the format comes from the name
        film.save(named, writer=PillowWriter(fps=3))
        named.replace(temporary)
    return path
