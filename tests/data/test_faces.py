"""Faces: the file that is read, people that are not in both parts, and masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from posterity.data import by_person, digits, hidden_pixels, orl_faces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = np.arange(6 * 2 * 8 * 6, dtype=np.uint8).reshape(6, 2, 8, 6)
    np.savez(tmp_path / "orl_faces.npz", images=images)
    return tmp_path


def test_pictures_keep_their_person(folder: Path) -> None:
    faces = orl_faces(folder=folder)
    assert faces.shape == (1, 8, 6)
    assert faces.labels is not None
    assert faces.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert int(faces.pixels[3, 0, 0, 0]) == 3 * 48
    assert faces.classes[5] == "person 6"


def test_no_person_is_in_both_parts(folder: Path) -> None:
    faces = orl_faces(folder=folder)
    training, test = by_person(faces, tested=2, seed=1)
    assert training.labels is not None
    assert test.labels is not None
    assert len(training) == 8
    assert len(test) == 4
    assert not set(training.labels.tolist()) & set(test.labels.tolist())
    assert by_person(faces, tested=2, seed=1)[1].labels.tolist() == test.labels.tolist()  # type: ignore[union-attr]
    assert {tuple(by_person(faces, tested=2, seed=s)[1].labels.tolist()) for s in range(9)} != {  # type: ignore[union-attr]
        tuple(test.labels.tolist())
    }


def test_the_real_file(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        faces = orl_faces()
    except FileNotFoundError:
        pytest.skip("POSTERITY_DATA has no faces")
    assert len(faces) == 400
    assert faces.shape == (1, 112, 92)


def test_masks() -> None:
    lower, eyes, centre = (hidden_pixels(part, 112, 92) for part in ("lower", "eyes", "centre"))
    assert int(lower.sum()) == 56 * 92
    assert bool(lower[56:].all())
    assert not bool(eyes[60:].any())
    assert 0.1 < float(eyes.double().mean()) < 0.25
    assert float(centre.double().mean()) == 0.25


def test_what_is_no_file_of_faces_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"orl_faces\.npz"):
        orl_faces(folder=tmp_path)
    monkeypatch.delenv("POSTERITY_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="got neither"):
        orl_faces()
    path = tmp_path / "orl_faces.npz"
    path.write_text("no array")
    with pytest.raises(ValueError, match="expected an array images"):
        orl_faces(folder=tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="expected an array images"):
        orl_faces(folder=tmp_path)
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 3, 4, 5), np.uint8))  # one array, not an archive
    with pytest.raises(ValueError, match="expected an array images"):
        orl_faces(folder=tmp_path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="expected an array images"):
        orl_faces(folder=tmp_path)
    np.savez(path, images=np.zeros((2, 3, 4, 5)))
    with pytest.raises(ValueError, match=r"expected bytes of shape \(people, pictures, H, W\)"):
        orl_faces(folder=tmp_path)


def test_bad_arguments_are_refused() -> None:
    faces = digits()
    for make, complaint in (
        (lambda: by_person(faces.pixels), "expected faces to be Images with labels"),
        (lambda: by_person(faces, tested=10), "tested"),
        (lambda: by_person(faces, tested=2, seed=-1), "seed"),
        (lambda: hidden_pixels("ears", 8, 8), "expected part to be one of"),
        (lambda: hidden_pixels("eyes", 3, 8), "height"),
        (lambda: hidden_pixels("eyes", 8, 0), "width"),
    ):
        with pytest.raises(ValueError, match=complaint):
            make()


def test_a_folder_is_a_path() -> None:
    with pytest.raises(ValueError, match="expected folder to be a path"):
        orl_faces(folder=3)  # type: ignore[arg-type]


def test_hidden_pixels_are_boolean() -> None:
    assert hidden_pixels("eyes", 8, 8).dtype == torch.bool
