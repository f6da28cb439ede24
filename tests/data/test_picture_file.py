"""Pictures of users: every kind of file comes back as it was, and what is no picture is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from posterity.data import Picture
from tests.data.test_images import needs


def ramp(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_comes_back_unchanged(channels, dtype):
    array = ramp(9, 7, *channels, dtype=dtype)
    assert np.array_equal(Picture.from_array(array).to_array(), array)


def test_luminance_is_that_of_bt_601():
    """Published: white 235, black 16, pure red 81.5, green 144.6, blue 41.0 (of 255)."""
    colours = np.array([[[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    found = Picture.from_array(colours).luminance[0] * 255
    assert found.tolist() == pytest.approx([235, 16, 81.481, 144.553, 40.966], abs=1e-3)
    assert float(Picture.from_array(np.full((1, 1), 255, np.uint8)).luminance) * 255 == pytest.approx(235)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_png_files_come_back_unchanged(mode, tmp_path):
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    picture = Picture.from_array(ramp(6, 5, *channels))
    again = Picture.read(picture.save(tmp_path / "a.png"))
    assert again.mode == mode
    assert np.array_equal(again.to_array(), picture.to_array())


def test_grey_pictures_of_16_bits_keep_them(tmp_path):
    picture = Picture.from_array(ramp(6, 5, dtype=np.uint16))
    again = Picture.read(picture.save(tmp_path / "a.png"))
    assert again.bits == 16
    assert np.array_equal(again.to_array(), picture.to_array())


def test_values_of_more_than_16_bits_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70_000]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="expected a picture of 8 or 16 bits, got Pillow's mode I of 32 bits"):
        Picture.read(tmp_path / "a.tif")
    Image.fromarray(np.array([[0.5]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(ValueError, match="expected a picture with whole numbers"):
        Picture.read(tmp_path / "b.tif")


def test_a_transparent_grey_value_of_16_bits_is_kept(tmp_path):
    array = np.array([[5, 1000], [1000, 60_000]], np.uint16)
    Image.fromarray(array).save(tmp_path / "a.png", transparency=1000)
    found = Picture.read(tmp_path / "a.png")
    assert found.mode == "LA"
    assert found.to_array()[..., 1].tolist() == [[65535, 0], [0, 65535]]


def test_palettes_bits_and_transparency_are_read(tmp_path):
    image = Image.fromarray(ramp(6, 5, 3)).quantize(16)
    image.save(tmp_path / "palette.png")
    assert np.array_equal(Picture.read(tmp_path / "palette.png").to_array(), np.asarray(image.convert("RGB")))
    image.save(tmp_path / "clear.png", transparency=0)
    assert Picture.read(tmp_path / "clear.png").mode == "RGBA"
    Image.fromarray(ramp(6, 5)).convert("1").save(tmp_path / "bits.png")
    assert set(Picture.read(tmp_path / "bits.png").to_array().flatten()) <= {0, 255}
    Image.fromarray(ramp(6, 5, 4)).convert("CMYK").save(tmp_path / "print.jpg")
    assert Picture.read(tmp_path / "print.jpg").mode == "RGB"


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    """EXIF orientation 6: the file lies on its side and is shown turned by a quarter clockwise."""
    image, exif = Image.fromarray(ramp(4, 6, 3)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(Picture.read(tmp_path / "a.png").to_array(), np.rot90(np.asarray(image), -1))


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"expected a picture in .*a\.png, got a file that cannot be read"):
        Picture.read(tmp_path / "a.png")
    Image.fromarray(ramp(40, 50, 3)).save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"expected a picture in .*b\.png, got a file that cannot be read"):
        Picture.read(tmp_path / "b.png")
    with pytest.raises(FileNotFoundError, match="expected path to be a picture"):
        Picture.read(tmp_path / "none.png")
    with pytest.raises(ValueError, match="expected path to be a picture, got the folder"):
        Picture.read(tmp_path)


@pytest.mark.parametrize("side", [11_000, 20_000])  # beyond the limits of this package, and of Pillow
def test_a_huge_picture_is_refused_with_its_size_before_it_is_decoded(side, tmp_path):
    Image.new("1", (side, side)).save(tmp_path / "huge.png")
    with pytest.raises(
        ValueError, match=rf"at most 80000000 pixels in .*huge\.png, got.* ({side} x {side}|.{side**2} pixels)"
    ):
        Picture.read(tmp_path / "huge.png")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_file_keeps_everything_or_is_refused(suffix, channels, dtype, tmp_path):
    """JPEG and WebP compress, so that values may differ there, but neither mode nor depth."""
    picture = Picture.from_array(ramp(8, 8, *channels, dtype=dtype))
    deep, opacity = suffix in (".png", ".tif") and not channels, suffix in (".png", ".tif", ".webp")
    if (dtype is np.uint16 and not deep) or (picture.mode.endswith("A") and not opacity):
        with pytest.raises(ValueError, match=r"expected path to end in .* for a picture with opacity|expected 8 bits"):
            picture.save(tmp_path / f"a{suffix}")
        assert list(tmp_path.iterdir()) == []
        return
    again = Picture.read(picture.save(tmp_path / f"a{suffix}"))
    opaque = {"LA": "RGBA", "L": "RGB"} if suffix == ".webp" else {}  # which has no grey
    assert again.mode in (picture.mode, opaque.get(picture.mode))
    assert again.bits == picture.bits
    if suffix in (".png", ".tif", ".bmp"):
        assert np.array_equal(again.to_array(), picture.to_array())


def test_a_file_of_no_known_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected path to end in one of"):
        Picture.from_array(ramp(4, 4)).save(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []
    assert Picture.from_array(ramp(4, 4, 3, dtype=np.uint16)).rounded(8).bits == 8


def test_other_floats_are_resized_as_float32():
    picture = Picture.from_array(ramp(9, 8))
    double = Picture(picture.planes.double().requires_grad_())
    assert torch.equal(double.resized(5, 6).planes, picture.resized(5, 6).planes)
    with pytest.raises(ValueError, match="expected finite planes"):
        Picture(torch.full((1, 4, 4), torch.nan))


def test_hidden_colours_do_not_show_at_edges():
    """A white disc on transparent black, enlarged, on white paper: white everywhere."""
    y, x = np.mgrid[:32, :32]
    disc = ((x - 15.5) ** 2 + (y - 15.5) ** 2 < 100).astype(np.uint8) * 255
    large = Picture.from_array(np.stack([disc] * 4, -1)).resized(128, 128).to_array().astype(float)
    opacity = large[..., 3:] / 255
    assert float((large[..., :3] * opacity + 255 * (1 - opacity)).min()) > 253


def test_damaged_exif_data_do_not_stop_a_picture(tmp_path):
    image, exif = Image.fromarray(ramp(8, 8, 3)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"Exif")
    for place in range(start + 6, start + 40):
        for value in (0, 255):
            (tmp_path / "b.jpg").write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                found = Picture.read(tmp_path / "b.jpg")
            except ValueError:
                continue
            assert found.size == (8, 8)


def test_reduction_is_that_of_pillow():
    """Published scores of super-resolution reduce with an antialiased bicubic filter and round to 8 bits."""
    array = ramp(22, 17, 3)
    small = Image.fromarray(array[:20, :16]).resize((4, 5), Image.Resampling.BICUBIC)
    found = Picture.from_array(array).reduced(4)
    assert np.abs(found.to_array().astype(int) - np.asarray(small).astype(int)).max() <= 1
    with pytest.raises(ValueError, match="expected a picture of at least 32 x 32 pixels"):
        Picture.from_array(array).reduced(32)


def test_another_luminance_keeps_the_colours():
    picture = Picture.from_array(ramp(6, 5, 4))
    changed = picture.with_luminance(picture.luminance * 0.9)
    assert torch.equal(changed.planes[1:], picture.planes[1:])
    with pytest.raises(ValueError, match=r"expected luminance of shape \(6, 5\), got \(3, 3\)"):
        picture.with_luminance(torch.zeros(3, 3))


@needs("images")
def test_bicubic_enlargement_of_set5_has_the_published_psnr():
    """28.43 dB (luminance, four pixels of border left out), within 0.02."""
    from posterity.data import set5

    found = []
    for picture in set5().pictures:
        whole = picture.cropped(4)
        error = picture.reduced(4).resized(*whole.size).rounded().luminance - whole.luminance
        found.append(-10 * error[4:-4, 4:-4].double().square().mean().log10())
    assert float(torch.stack(found).mean()) == pytest.approx(28.43, abs=0.02)
