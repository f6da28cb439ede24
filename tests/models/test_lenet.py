"""LeNet: its sizes, its last hidden layer, and its file."""

import pytest
import torch
from torch import nn

from posterity.models.lenet import LeNet, load_lenet, save_lenet


@pytest.mark.parametrize("shape", [(1, 12, 12), (1, 16, 16), (1, 28, 28), (3, 32, 32), (2, 13, 18)])
def test_every_size_from_12_pixels_works_and_every_weight_matters(shape):
    net = LeNet(4, shape, widths=(3, 5))
    x = torch.randn(64, *shape)
    assert net(x).shape == (64, 4)
    net(x).square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in net.parameters())


def test_with_the_widths_of_1998_it_has_their_number_of_weights():
    """With a full second convolution and a dense last layer: 61,706."""
    net = LeNet(widths=(6, 16))
    assert sum(p.numel() for p in net.parameters()) == (
        (25 + 1) * 6 + (25 * 6 + 1) * 16 + (400 + 1) * 120 + (120 + 1) * 84 + (84 + 1) * 10
    )


def test_it_is_what_the_layers_say():
    """Layer by layer, with the usual ReLU before the pooling."""
    net, x = LeNet(widths=(2, 3)), torch.randn(6, 1, 28, 28)
    first, second = net.convolutions[0][0], net.convolutions[1][0]
    maps = nn.functional.max_pool2d(nn.functional.conv2d(x, first.weight, first.bias, padding=2).relu(), 2)
    maps = nn.functional.max_pool2d(nn.functional.conv2d(maps, second.weight, second.bias).relu(), 2)
    one, two, last = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    expected = two(one(maps.flatten(1)).relu()).relu()
    torch.testing.assert_close(net.features(x), expected)
    torch.testing.assert_close(net(x), last(expected))


def test_features_are_the_last_hidden_layer():
    net, x = LeNet(7, (1, 16, 16)), torch.randn(5, 1, 16, 16)
    found = net.features(x)
    assert found.shape == (5, 84)
    assert bool((found >= 0).all())
    torch.testing.assert_close(net(x), net.last[1](found))


def test_dropout_is_of_training_alone():
    net, x = LeNet(dropout=0.5), torch.randn(3, 1, 28, 28)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeNet(1), "expected classes to be a whole number of 2 or more, got 1"),
        (lambda: LeNet(10.0), "expected classes to be a whole number of 2 or more, got 10.0"),
        (lambda: LeNet(shape=(28, 28)), r"expected shape \(C, H, W\) and two widths, got \(28, 28\) and \(16, 32\)"),
        (lambda: LeNet(widths=(6,)), r"got \(1, 28, 28\) and \(6,\)"),
        (lambda: LeNet(shape=(0, 28, 28)), "expected every number of shape to be a whole number of 1 or more, got 0"),
        (lambda: LeNet(widths=(0, 3)), "expected every number of widths to be a whole number of 1 or more, got 0"),
        (lambda: LeNet(shape=(1, 28, 11)), "expected images of at least 12 x 12 pixels, got 28 x 11"),
        (lambda: LeNet(dropout=1), r"expected dropout to be a number in \[0, 1\), got 1"),
        (lambda: LeNet(dropout=float("nan")), r"expected dropout to be a number in \[0, 1\), got nan"),
        (lambda: LeNet()(torch.zeros(2, 1, 27, 28)), r"images of shape \(N, 1, 28, 28\), got \(2, 1, 27, 28\)"),
        (lambda: LeNet()(torch.zeros(1, 28, 28)), r"images of shape \(N, 1, 28, 28\), got \(1, 28, 28\)"),
        (lambda: LeNet().features(torch.zeros(2, 784)), r"images of shape \(N, 1, 28, 28\), got \(2, 784\)"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# The file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_loaded_is_what_was_saved_bit_for_bit(dtype, tmp_path):
    net = LeNet(7, (2, 16, 14), widths=(3, 5), dropout=0.5).to(dtype)
    assert save_lenet(net, tmp_path / "net.pt") == tmp_path / "net.pt"
    before = torch.get_rng_state()
    found = load_lenet(tmp_path / "net.pt")
    assert torch.equal(before, torch.get_rng_state())
    assert (found.classes, found.shape, found.widths, found.dropout) == (7, (2, 16, 14), (3, 5), 0.5)
    assert [name for name, _ in found.named_parameters()] == [name for name, _ in net.named_parameters()]
    for one, two in zip(found.parameters(), net.parameters(), strict=True):
        assert torch.equal(one, two)
        assert one.dtype == dtype
        assert one.requires_grad
    assert not found.training
    x = torch.randn(9, 2, 16, 14, dtype=dtype)
    assert torch.equal(found(x), net.eval()(x))
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]


def test_a_loaded_network_can_be_trained_on(tmp_path):
    save_lenet(LeNet(shape=(1, 12, 12), widths=(2, 2)), tmp_path / "net.pt")
    net = load_lenet(tmp_path / "net.pt")
    before = [p.detach().clone() for p in net.parameters()]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(50, 1, 12, 12)).square().sum().backward()
    optimiser.step()
    assert all(not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_an_old_file_is_whole_where_a_new_one_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    save_lenet(LeNet(), path)
    before = path.read_bytes()

    def fails(content, part):
        part.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="no space left"):
        save_lenet(LeNet(), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["head", "weights", "settings", "end", "nothing", "text"])
def test_a_damaged_file_is_refused(place, tmp_path):
    path, net = tmp_path / "net.pt", LeNet(shape=(1, 12, 12), dropout=0.25)
    save_lenet(net, path)
    contents = bytearray(path.read_bytes())
    if place == "head":
        contents[:8] = b"\0" * 8
    elif place == "weights":  # one bit
        at = contents.find(net.hidden[0].weight.detach().numpy().tobytes())
        assert at > 0
        contents[at + 2] ^= 1
    elif place == "settings":  # one bit of the share that is dropped
        at = contents.find(b"dropout")
        assert at > 0
        contents[at + 12] ^= 1
    elif place == "end":
        contents = contents[: len(contents) // 2]
    else:
        contents = b"" if place == "nothing" else b"not a network"
    path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"expected a (whole )?LeNet in .*net.pt, got"):
        load_lenet(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "posterity LeNet 0"}, "expected the format 'posterity LeNet 1' in .*, got 'posterity LeNet 0'"),
        ({"settings": None}, "damaged"),
        ({"state": {}}, "damaged one: Error"),
        ({"state": [1, 2]}, "damaged"),
        ({"state": {"last.1.bias": 3}}, "damaged"),
    ],
)
def test_a_file_of_something_else_is_refused(change, message, tmp_path):
    path = tmp_path / "net.pt"
    save_lenet(LeNet(), path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(ValueError, match=message):
        load_lenet(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 3}, r"damaged one: Error.*\s+size mismatch"),
        ({"classes": 0}, "damaged one: expected classes"),
        ({"depth": 3}, "damaged one: .*depth"),
    ],
)
def test_weights_and_settings_that_do_not_fit_each_other_are_refused(settings, message, tmp_path):
    path = tmp_path / "net.pt"
    save_lenet(LeNet(), path)
    content = torch.load(path, weights_only=True)
    torch.save(content | {"settings": settings}, path)
    with pytest.raises(ValueError, match=message):
        load_lenet(path)


def test_other_files_and_networks(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(LeNet().state_dict(), path)
    with pytest.raises(ValueError, match="expected the format"):
        load_lenet(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(ValueError, match=r"expected a LeNet in .*, got something else"):
        load_lenet(path)
    torch.save(LeNet(), path)  # pickled code
    with pytest.raises(ValueError, match="cannot be read as one"):
        load_lenet(path)
    with pytest.raises(FileNotFoundError):
        load_lenet(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="expected net to be a LeNet, got Linear"):
        save_lenet(nn.Linear(2, 2), path)
