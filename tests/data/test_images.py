"""Every kind of file is read as its pixels are; what is unreadable is an error; resizing is torchvision's."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from src.data import images
from src.data.geometry import boxes_to_original, map_to_original, place
from src.data.images import (
    ImageError,
    check_mask_size,
    read_image,
    read_mask,
    read_resized,
    read_size,
    resize,
)
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError

HEIGHT, WIDTH = 48, 64


def picture(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Smooth and different in every corner: JPEG keeps it within a few levels, and no flip goes unseen."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def grey_of(rgb: np.ndarray) -> np.ndarray:
    return np.repeat(rgb[..., :1], 3, axis=2)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return float(np.abs(a.astype(int) - b).mean())


RGB = picture()
GREY = RGB[..., 0].copy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.webp", {"lossless": True}),
        ("a.tif", {}),
        ("a.tiff", {"compression": "tiff_lzw"}),
        ("a.ppm", {}),
        ("UPPER.PNG", {}),
        ("사진 하나.png", {}),
    ],
)
def test_lossless_files_come_back_exactly(tmp_path, name, options):
    assert (read_image(save(tmp_path / name, RGB, **options)) == RGB).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 2}])
def test_jpeg(tmp_path, options):
    path = save(tmp_path / "photo.JPG", RGB, quality=97, **options)
    assert difference(read_image(path), RGB) < 3
    assert difference(read_image(path), np.asarray(Image.open(path))) < 0.5


def test_grey_files_become_three_equal_channels(tmp_path):
    for name, options in (("g.png", {}), ("g.jpg", {"quality": 98}), ("g.tif", {}), ("g.bmp", {})):
        pixels = read_image(save(tmp_path / name, GREY, **options))
        assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
        assert difference(pixels, grey_of(RGB)) < 2


def test_palette_one_bit_and_gif(tmp_path):
    for mode in ("P", "1"):
        expected = np.asarray(Image.fromarray(RGB).convert(mode).convert("RGB"))
        assert (read_image(save(tmp_path / f"{mode}.png", RGB, mode)) == expected).all()
        assert (read_image(save(tmp_path / f"{mode}.bmp", RGB, mode)) == expected).all()
    gif = save(tmp_path / "a.gif", RGB)
    assert (read_image(gif) == np.asarray(Image.open(gif).convert("RGB"))).all()


def test_alpha_is_dropped_not_composited(tmp_path):
    alpha = np.where(np.arange(WIDTH) < 20, 0, 200).astype(np.uint8)[None].repeat(HEIGHT, 0)
    rgba = np.dstack([RGB, alpha])
    assert (read_image(save(tmp_path / "rgba.png", rgba)) == RGB).all()
    assert (read_image(save(tmp_path / "rgba.tif", rgba)) == RGB).all()
    assert (read_image(save(tmp_path / "rgba.webp", rgba, lossless=True, exact=True)) == RGB).all()
    assert (read_image(save(tmp_path / "la.png", np.dstack([GREY, alpha]))) == grey_of(RGB)).all()
    palette = Image.fromarray(RGB).convert("P")
    palette.save(tmp_path / "p.png", transparency=3)
    assert (read_image(tmp_path / "p.png") == np.asarray(palette.convert("RGB"))).all()


def test_sixteen_bits_are_scaled_by_the_range_in_use(tmp_path):
    wide = GREY.astype(np.uint16)
    wide.flat[:2] = 0, 255
    expected = np.repeat(wide.astype(np.uint8)[..., None], 3, axis=2)
    for factor in (257, 1):  # the full range, and 8-bit data in a 16-bit file
        cv2.imwrite(str(tmp_path / "g.png"), wide * factor)
        tifffile.imwrite(tmp_path / "g.tif", wide * factor)
        tifffile.imwrite(tmp_path / "big-endian.tif", (wide * factor).astype(">u2"), byteorder=">")
        for name in ("g.png", "g.tif", "big-endian.tif"):
            assert (read_image(tmp_path / name) == expected).all(), (name, factor)
    twelve = (wide.astype(np.uint32) * 4095 // 255).astype(np.uint16)  # a camera's 12 bits
    cv2.imwrite(str(tmp_path / "camera.png"), twelve)
    assert difference(read_image(tmp_path / "camera.png"), expected) < 1
    assert len(np.unique(read_image(tmp_path / "camera.png"))) > 100  # ÷ 257 would leave 16 levels


def test_sixteen_bit_colour(tmp_path):
    wide = RGB.astype(np.uint16) * 257
    wide[0, 0], wide[0, 1] = 0, 65535
    expected = (wide // 257).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "c.png"), wide[..., ::-1])
    cv2.imwrite(str(tmp_path / "ca.png"), np.dstack([wide[..., ::-1], wide[..., 0]]))
    tifffile.imwrite(tmp_path / "c.tif", wide, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "ca.tif", np.dstack([wide, wide[..., 0]]), photometric="rgb", extrasamples=["unassalpha"]
    )
    for name in ("c.png", "ca.png", "c.tif", "ca.tif"):
        assert (read_image(tmp_path / name) == expected).all(), name


def test_float_and_odd_tiffs(tmp_path):
    unit = GREY.astype(np.float32) / 255
    unit.flat[:2] = 0, 1
    expected = np.repeat(np.rint(unit * 255).astype(np.uint8)[..., None], 3, axis=2)
    tifffile.imwrite(tmp_path / "f.tif", unit)
    tifffile.imwrite(tmp_path / "f64.tif", unit.astype(np.float64))
    tifffile.imwrite(tmp_path / "frgb.tif", RGB.astype(np.float32) / 255, photometric="rgb")
    tifffile.imwrite(tmp_path / "i32.tif", expected[..., 0].astype(np.int32))
    tifffile.imwrite(tmp_path / "white0.tif", 255 - expected[..., 0], photometric="miniswhite")
    tifffile.imwrite(
        tmp_path / "white0_16.tif", 65535 - expected[..., 0].astype(np.uint16) * 257, photometric="miniswhite"
    )
    for name in ("f.tif", "f64.tif", "i32.tif", "white0.tif", "white0_16.tif"):
        assert (read_image(tmp_path / name) == expected).all(), name
    assert (read_image(tmp_path / "frgb.tif") == RGB).all()
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([GREY, 255 - GREY]), photometric="minisblack")
    assert (read_image(tmp_path / "pages.tif") == grey_of(RGB)).all()
    tifffile.imwrite(tmp_path / "nan.tif", np.full((8, 8), np.nan, np.float32))
    tifffile.imwrite(tmp_path / "metres.tif", np.full((8, 8), 1234.5, np.float32))
    for name in ("nan.tif", "metres.tif"):
        with pytest.raises(ImageError, match="expected"):
            read_image(tmp_path / name)


def test_cmyk_adobe_and_plain(tmp_path):
    path = save(tmp_path / "adobe.jpg", RGB, "CMYK", quality=98)
    data = path.read_bytes()
    assert b"Adobe" in data[:64]
    assert difference(read_image(path), RGB) < 4
    start = data.index(
        b"\xff\xee"
    )  # without Adobe's marker ink is not inverted: invert the samples, drop the marker
    inverted = Image.fromarray(255 - np.asarray(Image.fromarray(RGB).convert("CMYK")), "CMYK")
    inverted.save(path, quality=98)
    data = path.read_bytes()
    start = data.index(b"\xff\xee")
    length = struct.unpack(">H", data[start + 2 : start + 4])[0]
    plain = tmp_path / "plain.jpg"
    plain.write_bytes(data[:start] + data[start + 2 + length :])
    assert difference(read_image(plain), RGB) < 4
    assert difference(read_image(save(tmp_path / "cmyk.tif", RGB, "CMYK")), RGB) < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    upright = np.array(ImageOps.exif_transpose(_tagged(RGB, exif)))
    for name, options in (("a.jpg", {"quality": 97}), ("a.png", {}), ("a.webp", {"lossless": True})):
        path = save(tmp_path / name, RGB, exif=exif, **options)
        assert difference(read_image(path), upright) < 3, name
        assert read_size(path) == upright.shape[:2]
        spec = PreprocessSpec(20, 30)
        small, size = read_resized(path, spec)
        assert size == upright.shape[:2]
        assert difference(small, resize(upright, (20, 30), "bilinear")) < 3
    Image.fromarray(RGB).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    tifffile.imwrite(
        tmp_path / "deep.tif", RGB.astype(np.uint16) * 257, extratags=[(274, "H", 1, orientation, True)]
    )
    for name in ("a.tif", "deep.tif"):
        assert difference(read_image(tmp_path / name), upright) == 0, name
        assert read_size(tmp_path / name) == upright.shape[:2]


def _tagged(pixels: np.ndarray, exif: Image.Exif) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "name", ["a.jpg", "p.jpg", "a.png", "a.webp", "a.bmp", "a.tif", "a.gif", "deep.png", "deep.tif"]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_truncated_files(tmp_path, name, share):
    whole = tmp_path / name
    if name.startswith("deep"):
        cv2.imwrite(str(whole), RGB.astype(np.uint16) * 257)
    else:
        save(whole, RGB, **({"progressive": True} if name == "p.jpg" else {}))
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * share)])
    for read in (read_image, read_mask, lambda path: read_resized(path, PreprocessSpec(16, 16))):
        with pytest.raises(ImageError) as caught:
            read(whole)
        assert caught.value.path == str(whole) and str(whole) in str(caught.value) and caught.value.reason


def test_jpeg_cut_off_but_closed_is_refused_and_stray_bytes_are_not(tmp_path):
    data = save(tmp_path / "a.jpg", RGB, quality=95).read_bytes()
    (tmp_path / "stray.jpg").write_bytes(data[:-2] + b"\0\0\0\0" + data[-2:])
    assert difference(read_image(tmp_path / "stray.jpg"), RGB) < 3
    if images.simplejpeg is not None:
        (tmp_path / "closed.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
        with pytest.raises(ImageError):
            read_image(tmp_path / "closed.jpg")


def test_what_is_no_image(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    for name, reason in (
        ("empty.jpg", "empty"),
        ("text.png", "not an image"),
        ("none.png", "no such file"),
        ("folder.png", "."),
    ):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)
        with pytest.raises(ProjectError):
            read_size(tmp_path / name)


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def test_zero_size_bomb_and_corrupt_checksum(tmp_path):
    (tmp_path / "zero.png").write_bytes(_png(0, 10, b""))
    (tmp_path / "bomb.png").write_bytes(_png(60000, 60000, b"\0" * 1000))
    good = bytearray(save(tmp_path / "good.png", RGB).read_bytes())
    good[len(good) // 2] ^= 0xFF
    (tmp_path / "crc.png").write_bytes(bytes(good))
    for name in ("zero.png", "crc.png"):
        with pytest.raises(ImageError):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="tiles"):
        read_image(tmp_path / "bomb.png")


def test_image_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("a/b.png", "the file is empty")))
    assert (error.path, error.reason) == ("a/b.png", "the file is empty") and "a/b.png" in str(error)


def test_codecs_are_silent(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.tif"), RGB.astype(np.uint16) * 257)
    data = (tmp_path / "deep.tif").read_bytes()
    (tmp_path / "deep.tif").write_bytes(data[: len(data) // 2])
    save(tmp_path / "profile.png", RGB, icc_profile=b"nonsense" * 20)
    cut = save(tmp_path / "cut.png", RGB).read_bytes()
    (tmp_path / "cut.png").write_bytes(cut[:-400])
    code = (
        "import sys, pathlib; from src.data.images import read_image, ImageError\n"
        "for p in sys.argv[1:]:\n"
        "    try: read_image(p)\n"
        "    except ImageError: pass\n"
    )
    files = [str(tmp_path / name) for name in ("deep.tif", "profile.png", "cut.png")]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, *files], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stderr == "" and done.stdout == ""


# -- resizing


def _torchvision(pixels: np.ndarray, size: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    """What anomalib feeds: float picture, antialiased."""
    import torch
    from torchvision.transforms.v2.functional import InterpolationMode
    from torchvision.transforms.v2.functional import resize as tv_resize

    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    out = tv_resize(tensor, list(size), InterpolationMode(mode), antialias=True)
    return (out.permute(1, 2, 0) * 255).clamp(0, 255).numpy()


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 500), (97, 224), (60, 80)])
def test_resize_is_torchvisions_antialiased_within_rounding(mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    out = resize(pixels, (96, 112), mode)
    error = np.abs(out - _torchvision(pixels, (96, 112), mode))
    assert error.mean() < 0.5
    if (
        mode == "bilinear"
    ):  # the uint8 bicubic clips its overshoot between the two passes, where noise has much of it
        assert error.max() <= 1.5


def test_area_is_opencvs_box_average():
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    mean = pixels.reshape(32, 4, 32, 4, 3).mean((1, 3))
    assert np.abs(resize(pixels, (32, 32), "area") - mean).max() <= 0.5 + 1e-6


def test_dct_scaled_decoding_stays_close_to_the_full_decode(tmp_path):
    """A large JPEG is decoded at a fraction; it must match full decode + torchvision's float resize."""
    from skimage import data

    large = cv2.resize(data.astronaut(), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    path = save(tmp_path / "large.jpg", large, quality=92)
    spec = PreprocessSpec(128, 128)
    decoded = []
    real = images._decode_jpeg

    def spy(data: bytes, header: Image.Image, factor: int) -> np.ndarray:
        decoded.append(factor)
        return real(data, header, factor)

    images._decode_jpeg = spy
    try:
        ours, size = read_resized(path, spec)
    finally:
        images._decode_jpeg = real
    assert decoded == [2] and size == (
        1200,
        1600,
    )  # 1200 / 128 = 9.4: a half leaves 4.7 times the target, a quarter 2.3
    reference = _torchvision(np.array(Image.open(path).convert("RGB")), (128, 128))
    error = np.abs(ours - reference)
    assert error.mean() < 0.5 and np.percentile(error, 99.9) < 3


def test_without_simplejpeg_pillow_reads_the_same(tmp_path, monkeypatch):
    path = save(tmp_path / "a.jpg", picture(700, 900), quality=95)
    with_it = read_image(path), read_resized(path, PreprocessSpec(64, 64))[0]
    monkeypatch.setattr(images, "simplejpeg", None)
    without = read_image(path), read_resized(path, PreprocessSpec(64, 64))[0]
    assert difference(with_it[0], without[0]) < 0.5 and difference(with_it[1], without[1]) < 0.5
    (tmp_path / "cut.jpg").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ImageError):
        read_image(tmp_path / "cut.jpg")


# -- geometry


def test_letterbox_keeps_all_and_pads_with_the_mean(tmp_path):
    spec = PreprocessSpec(64, 64, resize="letterbox")
    path = save(tmp_path / "wide.png", np.full((30, 60, 3), 255, np.uint8))
    out, size = read_resized(path, spec)
    assert size == (30, 60) and out.shape == (64, 64, 3)
    assert (out[16:48] == 255).all()
    assert (out[:16] == spec.pad_value).all() and (out[48:] == spec.pad_value).all()


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (333, 500), (224, 224), (100, 90)])
def test_crop_is_torchvisions_resize_and_center_crop(size):
    import torch
    from torchvision.transforms.v2 import CenterCrop, Compose, Resize

    pixels = picture(*size)
    expected = Compose([Resize(224, antialias=True), CenterCrop(224)])(
        torch.from_numpy(pixels).permute(2, 0, 1)
    )
    spec = PreprocessSpec(224, 224, resize="crop")
    placed = place(size, spec)
    out = images.lay_out(
        resize(pixels, (placed.scaled_height, placed.scaled_width), "bilinear"), placed, (224, 224), 0
    )
    assert difference(out, expected.permute(1, 2, 0).numpy()) < 0.05


@pytest.mark.parametrize("mode", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(300, 500), (500, 300), (64, 96)])
def test_boxes_and_maps_go_back_to_original_pixels(mode, size):
    """A bright rectangle near the middle: its box and its heat must return to where it was."""
    spec = PreprocessSpec(128, 160, resize=mode)
    height, width = size
    y0, y1, x0, x1 = int(height * 0.4), int(height * 0.6), int(width * 0.35), int(width * 0.55)
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    placed = place(size, spec)
    canvas = images.lay_out(
        resize(pixels, (placed.scaled_height, placed.scaled_width), "bilinear"), placed, (128, 160), 0
    )
    rows, columns = np.nonzero(canvas[..., 0] > 127)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
    back = boxes_to_original(box, size, spec)
    tolerance = max(height / placed.scaled_height, width / placed.scaled_width) + 1
    assert np.abs(back - [[x0, y0, x1, y1]]).max() <= tolerance
    heat = map_to_original(canvas[..., 0] / 255, size, spec)
    assert heat.shape == size and heat.dtype == np.float32
    truth = pixels[..., 0] > 0
    overlap = ((heat > 0.5) & truth).sum() / ((heat > 0.5) | truth).sum()
    assert overlap > 0.9


def test_boxes_are_clipped_to_the_picture():
    spec = PreprocessSpec(64, 64, resize="letterbox")
    assert (boxes_to_original([[0, 0, 64, 64]], (30, 60), spec) == [[0, 0, 60, 30]]).all()
    assert boxes_to_original(np.zeros((0, 4)), (30, 60), spec).shape == (0, 4)


# -- masks


def _blob() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:30, 12:40] = 1
    return mask


@pytest.mark.parametrize("value", [1, 128, 255])
def test_any_nonzero_grey_is_one(tmp_path, value):
    mask = _blob()
    for name in ("m.png", "m.bmp", "m.tif"):
        assert (read_mask(save(tmp_path / name, mask * np.uint8(value))) == mask).all()


def test_masks_of_every_mode(tmp_path):
    mask = _blob()
    files = {
        "one-bit.png": Image.fromarray(mask.astype(bool)),
        "rgb.png": Image.fromarray(np.dstack([mask * 0, mask * 200, mask * 0])),
        "opaque.png": Image.fromarray(np.dstack([mask * 255] * 3 + [np.full_like(mask, 255)])),
        "alpha.png": Image.fromarray(np.dstack([mask * 0] * 3 + [mask * 255])),
        "lossy.jpg": Image.fromarray(mask * 255),
    }
    palette = Image.fromarray(mask * 3).convert("P")
    palette = Image.fromarray(mask * 3, "P")
    palette.putpalette([0, 0, 0] * 256)  # all black to look at: the index counts
    files["palette.png"] = palette
    for name, image in files.items():
        image.save(tmp_path / name, **({"quality": 80} if name.endswith("jpg") else {}))
        found = read_mask(tmp_path / name)
        assert found.dtype == np.uint8 and (found != mask).mean() < (
            0.01 if name.endswith("jpg") else 1e-9
        ), name
    for name, deep in (
        ("16.png", mask.astype(np.uint16)),
        ("16rgb.png", np.dstack([mask.astype(np.uint16)] * 3)),
    ):
        cv2.imwrite(str(tmp_path / name), deep)
        assert (read_mask(tmp_path / name) == mask).all(), name


def test_an_empty_opaque_mask_is_empty(tmp_path):
    black = np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    assert read_mask(save(tmp_path / "m.png", black)).sum() == 0


@pytest.mark.parametrize("mode", ["squash", "letterbox", "crop"])
def test_a_mask_lands_where_its_image_does(tmp_path, mode):
    mask = _blob()
    image = save(tmp_path / "i.png", np.dstack([mask * 255] * 3))
    path = save(tmp_path / "m.png", mask * 255)
    spec = PreprocessSpec(40, 40, resize=mode, mean=(0.0, 0.0, 0.0))
    laid = read_mask(path, spec=spec)
    pixels, _ = read_resized(image, spec)
    assert laid.shape == (40, 40) and set(np.unique(laid)) == {0, 1}
    assert ((pixels[..., 0] > 127) != laid.astype(bool)).mean() < 0.05
    assert read_mask(path, (20, 10)).shape == (20, 10)


def test_exif_turns_the_mask_too(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "m.png", _blob() * 255, exif=exif)
    assert (read_mask(path) == np.rot90(_blob(), 3)).all()


def test_mask_of_another_size_is_refused():
    check_mask_size((10, 20), (10, 20), mask="m.png", image="i.png")
    with pytest.raises(ProjectError, match=r"m\.png is 20×10 .* i\.png is 10×20"):
        check_mask_size((10, 20), (20, 10), mask="m.png", image="i.png")
