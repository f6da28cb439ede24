"""Files of tensors: back as they were, and refused where they are damaged; checksums that tell values apart."""

import hashlib
import subprocess
import sys

import pytest
import torch

from posterity.files import checksum, describe, read_tensors, replacing, write_tensors


def test_tensors_come_back_bit_for_bit_and_nothing_else_is_left(tmp_path):
    content = {"x": torch.tensor([0.1, float("nan")], dtype=torch.double), "settings": {"n": 3, "name": "a"}}
    path = write_tensors(content, tmp_path / "kept.pt")
    found = read_tensors(path, "a result")
    assert torch.equal(found["x"].view(torch.long), content["x"].view(torch.long))
    assert found["settings"] == content["settings"]
    assert [file.name for file in tmp_path.iterdir()] == ["kept.pt"]


def test_an_old_file_is_whole_where_a_new_one_cannot_be_written(tmp_path):
    path = write_tensors({"x": torch.zeros(1)}, tmp_path / "kept.pt")
    with pytest.raises((AttributeError, TypeError, RuntimeError)):  # torch's words for what cannot be pickled
        write_tensors({"x": (value for value in range(3))}, path)
    assert torch.equal(read_tensors(path, "a result")["x"], torch.zeros(1))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_damaged_files_are_refused(share, tmp_path):
    path = write_tensors({"x": torch.randn(1000)}, tmp_path / "kept.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"expected a result in .*kept.pt, got a file that cannot be read as one"):
        read_tensors(path, "a result")


@pytest.mark.parametrize("seed", range(20))
def test_a_wrong_bit_is_seen_or_changes_nothing(seed, tmp_path):
    content = {"x": torch.randn(300, generator=torch.Generator().manual_seed(0)), "settings": {"width": 16}}
    path = write_tensors(content, tmp_path / "kept.pt")
    whole = bytearray(path.read_bytes())
    where = int(torch.randint(8 * len(whole), (), generator=torch.Generator().manual_seed(seed)))
    whole[where // 8] ^= 1 << where % 8
    path.write_bytes(whole)
    try:
        found = read_tensors(path, "a result")
    except ValueError as error:
        assert "cannot be read as one" in str(error)  # noqa: PT017
    else:
        assert torch.equal(found["x"], content["x"])
        assert found["settings"] == content["settings"]


def test_other_content_and_no_file(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ValueError, match=r"expected a result in .*tensor.pt, got something else"):
        read_tensors(tmp_path / "tensor.pt", "a result")
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.pt", "a result")


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename on the same file system is one step
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert not temporary.exists()


def test_an_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def fails():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fails()
    assert path.read_text() == "old"


def test_the_checksum_is_that_of_dtype_shape_and_bits():
    x = torch.tensor([[1.0, -2.0], [0.5, float("nan")]])
    expected = hashlib.sha256(b"torch.float32 (2, 2)" + x.numpy().tobytes()).hexdigest()
    assert checksum(x) == expected
    assert checksum(x.T.contiguous().T) == expected  # the layout in memory is not part of the value
    others = [x.double(), x.reshape(4), x.flip(0), -x, torch.zeros(2, 2), (x, x), (x, "a"), "a", ("a", "b"), 1]
    sums = [checksum(*(other if isinstance(other, tuple) else (other,))) for other in others]
    assert len({expected, *sums}) == len(others) + 1
    assert checksum(torch.tensor([0.0])) != checksum(torch.tensor([-0.0]))


class Described:
    def describe(self):
        return "width 3"


def test_a_description_is_the_same_in_every_process():
    assert describe(Described()) == "width 3"
    assert describe(0.1) == "0.1"
    assert " at 0x" not in describe([object(), describe])
    code = "import posterity.files as f; print(f.checksum(len, object(), {1, 2}, 0.1))"
    found = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(found) == 1
