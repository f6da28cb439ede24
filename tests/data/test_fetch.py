"""Files of public data sets: from a folder, downloaded, or with other contents."""

import gzip
from pathlib import Path

import pytest

from posterity.data import fashion_mnist, mnist, read_idx
from posterity.data.fetch import gunzip, read_public
from tests.idx_cases import idx


def test_something_else_called_gz_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="expected a gzip file"):
        gunzip(tmp_path / "a.gz")
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def test_a_file_with_other_contents_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    name = "mnist/train-images-idx3-ubyte.gz"
    (tmp_path / name).write_bytes(gzip.compress(idx()))
    with pytest.raises(ValueError, match=r"expected .* to hold data of SHA-256 ba891046.*, got "):
        mnist(folder=tmp_path)
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        mnist("test", folder=tmp_path)
    monkeypatch.setenv("POSTERITY_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="SHA-256"):
        mnist()


def test_what_is_not_at_hand_is_downloaded_and_looked_at(tmp_path, monkeypatch):
    asked = []

    def retrieve(url, known_hash, fname, path):
        asked.append((url, fname))
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / fname).write_bytes(gzip.compress(idx()))
        return str(Path(path) / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("POSTERITY_DATA", raising=False)
    with pytest.raises(ValueError, match="SHA-256"):
        fashion_mnist("test")
    assert asked == [
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
        )
    ]
    import hashlib

    assert read_public("x/a.gz", "https://nowhere/a.gz", hashlib.sha256(idx()).hexdigest()) == idx()
