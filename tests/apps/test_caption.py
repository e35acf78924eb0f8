"""Korean captions of a folder: the command on a small CLIP of the real class."""

from pathlib import Path

import pytest
from PIL import Image

from src.apps.caption import caption_images, find_images, load_captioner, main, read_arguments
from src.captions.decoding import Decoding
from src.errors import ProjectError
from tests.models.caption.tiny_clip import SENTENCES, pictures, save_clip


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"), taught=SENTENCES)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures, one in a folder below, and a file that is none."""
    folder = tmp_path / "photos"
    (folder / "가").mkdir(parents=True)
    for name, picture in zip(["1.png", "가/2.png", "10.PNG"], pictures((60, 40)), strict=True):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / name)
    (folder / "9.jpg").write_bytes(b"no picture")
    return folder


def test_a_folder_is_captioned_from_a_file_of_sentences(
    clip_folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = tmp_path / "bank.txt"
    bank.write_text("\n".join(SENTENCES), encoding="utf-8")
    out = tmp_path / "new" / "captions.csv"
    status = main(
        [f"images={photos}", f"weights={clip_folder}", f"model.bank={bank}", "model.image_size=32", f"out={out}",
         "candidates=2", "batch_size=3"]
    )  # fmt: skip
    printed = capsys.readouterr()
    assert status == 1 and "9.jpg: cannot read image" in printed.err  # the others are captioned nonetheless
    lines = [line for line in printed.out.splitlines() if ": " in line and line[0] != "w"]
    assert lines[::2] == [f"1.png: {SENTENCES[0]}", f"10.PNG: {SENTENCES[2]}", f"가/2.png: {SENTENCES[1]}"]
    rows = out.read_text(encoding="utf-8-sig").splitlines()
    assert rows[0] == "id,rank,caption,score" and len(rows) == 7
    assert rows[1].startswith(f"1.png,1,{SENTENCES[0]},") and rows[2].startswith("1.png,2,")
    assert main([f"images={photos / '1.png'}", f"weights={clip_folder}", f"model.bank={bank}"]) == 0


def test_without_a_training_set_templates_are_filled(clip_folder: Path, photos: Path) -> None:
    captioner = load_captioner(weights=str(clip_folder), device="cpu", changes={"image_size": 32})
    assert (captioner.spec.height, captioner.spec.resize) == (32, "squash")
    found = list(caption_images(captioner, find_images(str(photos))[:1], Decoding(candidates=1)))
    assert found[0].candidates[0].text.startswith("이것은 ") and not found[0].problem


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imges=x"], "imges is not an option. Did you mean 'images'?"),
        (["photos/"], "'photos/' is no key=value"),
        (["model=clip_bank"], "images=<folder or image> is missing"),
        (["images=x", "candidates=0"], "candidates=0: give a whole number"),
        (["images=x", "candidates=many"], "candidates=many: give a whole number"),
    ],
)
def test_mistakes_on_the_command_line(arguments: list[str], message: str) -> None:
    with pytest.raises(ProjectError, match=message.replace("?", r"\?")):
        read_arguments(arguments)


def test_mistakes_about_models_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_arguments(["images=x", "model.names=[사과, 책]"])[1] == {"names": ["사과", "책"]}
    with pytest.raises(ProjectError, match="choose one that needs no training: blip_translated, clip_bank, koclip"):
        load_captioner("nearest")
    with pytest.raises(ProjectError, match="model.banks: koclip_bank has no such option. Did you mean 'bank'"):
        load_captioner(changes={"banks": "x"})
    with pytest.raises(ProjectError, match="here is no training set"):
        load_captioner(changes={"bank": "training"})
    with pytest.raises(ProjectError, match="no image there"):
        find_images(str(tmp_path))
    assert main([f"images={tmp_path}"]) == 1 and "error: images=" in capsys.readouterr().err
    assert main([]) == 1 and main(["--help"]) == 0
