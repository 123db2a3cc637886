"""Images, videos and masks are fitted to the model's geometry, and what was done is said."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.generation.boxes import Box, parse_box, place_box
from pipelines.generation.inputs import Geometry, fit_image, fit_mask, fit_on_canvas, fit_video
from pipelines.generation.knowledge import knowledge
from pipelines.generation.refusal import InputError
from pipelines.video_file import write_mp4

GEOMETRY = Geometry(num_frames=8, fps=Fraction(8), size_px=16)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """64 wide, 32 high: red, but for a blue column at the very left, which a centred square leaves out."""
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :8] = (0, 0, 200)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    return str(tmp_path / "red.png")


@pytest.fixture
def video(tmp_path: Path) -> str:
    """16 frames at 16 fps, 32 x 32, each of its own brightness."""
    frames = np.stack([np.full((32, 32, 3), 10 + 15 * t, np.uint8) for t in range(16)])
    write_mp4(tmp_path / "ramp.mp4", frames, 16, crf=0)
    return str(tmp_path / "ramp.mp4")


def test_an_image_is_cropped_to_its_middle_and_scaled_and_both_are_said(image):
    fitted = fit_image(image, GEOMETRY)
    assert fitted.frames_THWC.shape == (1, 16, 16, 3)
    assert (fitted.frames_THWC[..., 2] < 10).all(), "the blue column is outside the square"
    assert fitted.said == ["image: cropped from 64x32 to its middle 32x32", "image: scaled from 32x32 to 16x16"]


def test_an_image_that_fits_is_left_as_it_is_and_nothing_is_said(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "fits.png")
    fitted = fit_image(str(tmp_path / "fits.png"), GEOMETRY)
    assert (fitted.frames_THWC[0] == pixels).all()
    assert fitted.said == []


def test_an_image_of_a_phone_is_turned_upright(tmp_path):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the top becomes the right
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    upright = fit_image(str(tmp_path / "phone.png"), GEOMETRY).frames_THWC[0]
    assert upright[:, 12:].min() > 200
    assert upright[:, :12].max() < 50


def test_a_video_is_taken_at_the_times_of_the_geometry(video):
    fitted = fit_video(video, GEOMETRY)
    brightness = fitted.frames_THWC.mean((1, 2, 3))
    assert brightness == pytest.approx([10 + 15 * t for t in range(0, 16, 2)], abs=4)
    assert fitted.said == ["video: 8 frames at 8 fps taken from 16 at 16 fps", "video: scaled from 32x32 to 16x16"]


def test_a_short_video_stays_at_its_last_frame_and_a_long_one_is_cut(video):
    longer = fit_video(video, GEOMETRY._replace(num_frames=20, fps=Fraction(16)))
    assert longer.frames_THWC[15:].mean((1, 2, 3)) == pytest.approx([235] * 5, abs=4)
    assert "video: too short, its last frame stands for 4 more" in longer.said
    shorter = fit_video(video, GEOMETRY._replace(num_frames=4, fps=Fraction(16)))
    assert shorter.frames_THWC.mean((1, 2, 3)) == pytest.approx([10, 25, 40, 55], abs=4)


def test_a_box_is_cropped_and_scaled_like_its_input(image):
    fitted = fit_image(image, GEOMETRY)
    mask, said = fit_mask("16,0,16,32", fitted.framing, GEOMETRY)  # the left half of the middle square
    assert mask.shape == (8, 16, 16)
    assert mask[:, :, :8].all()
    assert not mask[:, :, 8:].any()
    assert said == []
    shares, _ = fit_mask("0.25, 0, 0.25, 1", fitted.framing, GEOMETRY)
    assert (shares == mask).all()


def test_a_mask_may_be_an_image_of_another_size_or_a_video(image, video, tmp_path):
    fitted = fit_image(image, GEOMETRY)
    Image.fromarray(np.pad(np.full((8, 8), 255, np.uint8), ((0, 0), (8, 16)))).save(tmp_path / "mask.png")
    mask, said = fit_mask(str(tmp_path / "mask.png"), fitted.framing, GEOMETRY)
    assert mask[:, :, :8].all(), "pixels 8 to 16 of 32 are the left half of the middle square"
    assert not mask[:, :, 8:].any()
    assert said == ["mask: scaled from 32x8 to its input's 64x32"]
    ramp = fit_video(video, GEOMETRY)
    moving, _ = fit_mask(video, ramp.framing, GEOMETRY)
    assert moving[:, 0, 0].tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(
    ("text", "box"),
    [("1,2,3,4", Box(1, 2, 3, 4)), (" 0.5, 0 ,0.25,1 ", Box(0.5, 0, 0.25, 1)), ("mask.png", None), ("1,2,3", None)],
)
def test_four_numbers_are_a_box_and_all_else_is_a_file(text, box):
    assert parse_box(text) == box


def test_outpainting_places_the_video_in_the_middle_or_where_it_is_told():
    assert place_box(None, 32, (48, 48)) == (6, 6, 20, 20)
    assert place_box("0,8,16,16", 32, (48, 48)) == (0, 8, 16, 16)
    with pytest.raises(InputError, match="a box within the canvas of 32x32 pixels"):
        place_box("20,8,16,16", 32, (48, 48))
    with pytest.raises(InputError, match=r"outpainting expects the box x,y,w,h .* on the canvas"):
        place_box("mask.png", 32, (48, 48))


def test_what_cannot_be_used_is_told_by_name(image, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.mp4").write_text("no video")
    fitted = fit_image(image, GEOMETRY)
    for call, message in (
        (lambda: fit_image(str(tmp_path / "none.png"), GEOMETRY), r"image .*none\.png: no such file"),
        (lambda: fit_image(str(tmp_path / "text.png"), GEOMETRY), r"image .*text\.png: not a readable image"),
        (lambda: fit_video(str(tmp_path / "none.mp4"), GEOMETRY), r"video .*none\.mp4: no such file"),
        (lambda: fit_video(str(tmp_path / "text.mp4"), GEOMETRY), r"video .*text\.mp4: not a readable video"),
        (lambda: fit_mask("70,0,4,4", fitted.framing, GEOMETRY), "a box inside the input of 64x32 pixels"),
        (lambda: fit_mask("0,0,0,4", fitted.framing, GEOMETRY), "a box x,y,w,h with a width and a height"),
        (lambda: fit_mask("mask.txt", fitted.framing, GEOMETRY), r"mask mask\.txt: a box x,y,w,h, an image or a video"),
    ):
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize(
    ("size", "place"),
    [((90, 160), (2, 8, 27, 15)), ((160, 90), (8, 2, 15, 27)), ((48, 48), (6, 6, 20, 20)), ((10, 200), (0, 15, 32, 2))],
)
def test_outpainting_without_a_box_keeps_the_videos_aspect(size, place):
    assert place_box(None, 32, size) == place


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """90 high, 160 wide: a white disc of 60 pixels on black, whose outline tells a stretched picture."""
    rows, columns = np.mgrid[:90, :160]
    disc = ((rows - 44.5) ** 2 + (columns - 79.5) ** 2 < 30**2).astype(np.uint8)[..., None] * 255
    write_mp4(tmp_path / "wide.mp4", np.stack([disc.repeat(3, 2)] * 8), 8, crf=0)
    return str(tmp_path / "wide.mp4")


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (None, ["video: scaled from 160x90 to 107x60"]),
        ("0,32,128,72", ["video: scaled from 160x90 to 128x72"]),
        ("0,0,64,64", ["video: cropped from 160x90 to its middle 90x90", "video: scaled from 90x90 to 64x64"]),
        ("0,0,128,64", ["video: cropped from 160x90 to its middle 160x80", "video: scaled from 160x80 to 128x64"]),
    ],
)
def test_outpainting_shows_as_much_of_the_video_as_its_box_has_room_for_and_never_stretches_it(wide, box, said):
    laid = fit_on_canvas(wide, box, Geometry(8, Fraction(8), 128))
    assert laid.frames_THWC.shape == (8, laid.place.height, laid.place.width, 3)
    is_white = laid.frames_THWC[0, ..., 0] >= 128
    across, down = is_white.any(0).sum(), is_white.any(1).sum()
    assert abs(int(across) - int(down)) <= 1, "a disc stays a disc"
    assert laid.said[:-1] == said
    assert laid.said[-1].endswith("of the canvas of 128x128")


def test_a_box_that_leaves_its_input_ends_at_the_edge_and_that_is_said(image):
    fitted = fit_image(image, GEOMETRY)
    mask, said = fit_mask("32,16,100,100", fitted.framing, GEOMETRY)
    assert mask[:, 8:, 8:].all()
    assert said == ["mask: the box 32,16,100,100 leaves its input of 64x32 and ends at its edge"]


def test_of_a_cinemagraphs_mask_video_the_first_frame_counts_and_that_is_said(image, video):
    request = {"task": "cinemagraph", "image": image, "mask": video, "video": None}
    dark = knowledge(request, GEOMETRY)
    assert dark.known.mask_B1THW.all(), "the first frame of the ramp is dark"
    assert dark.said[-3:] == [
        "mask: scaled from 32x32 to its input's 64x32",
        "mask: nothing of it is left in the cropped square",
        "mask: a cinemagraph's region stays where it is, the video's later frames are not looked at",
    ]
