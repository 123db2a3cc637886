"""Measure the demo's weights: what its CLIP tells apart, and what is read out of the images that its U-Net draws.

    python -m demo.measure_weights
    python -m demo.measure_weights --captions 100 --sheet out/images.png

A minute or two on two cores. Nothing measured here was seen in training: frames and captions are drawn anew.

Shape letters: N frames or captions, H height, W width, C channels (RGB), D width of the common space.
"""

import argparse
import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import mannwhitneyu

from demo.captions import caption
from demo.frames import FrameBatch, degrade, draw_frames
from demo.readout import find_thing
from demo.scene import COLORS, SHAPES, Scene, draw_scene
from demo.train_clip import FRAME_PX, as_input
from pipelines.pixels import to_levels
from pipelines.progress import track
from stunet.backbone import load_backbone

WEIGHTS = Path(__file__).resolve().parent / "weights"
_COLUMNS = 10
_IMAGES_AT_ONCE = 20


@dataclass(frozen=True)
class ClipQuality:
    """How well captions and frames are told apart."""

    retrieval: float
    """Share of frames for which the right one of 24 captions, a shape in a colour, scores highest."""
    auc_other: float
    """Area under the ROC curve of right captions against such of another shape in another colour."""
    auc_color: float
    """The same against captions of another colour alone."""
    auc_shape: float
    """The same against captions of another shape alone."""
    right: tuple[float, float]
    """Cosine of right captions: the lowest hundredth, the median."""
    wrong: tuple[float, float]
    """Cosine of captions of another shape in another colour: the median, the highest hundredth."""


@dataclass(frozen=True)
class ImageQuality:
    """What is read out of generated images."""

    images: int
    color: float
    """Share of images in which the caption's colour is seen."""
    shape: float
    """Share of images in which the caption's shape is seen."""


def measure_clip(folder: Path, num_frames: int = 480, seed: int = 1_000_003) -> ClipQuality:
    """Measure an open_clip folder on frames of scenes, as codecs leave them."""
    import open_clip

    model: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    rng = random.Random(seed)
    batch = draw_frames(rng, num_frames, FRAME_PX)
    others = {kind: [_wrong(scene, kind, rng) for scene in batch.scenes] for kind in ("both", "color", "shape")}
    names = [(color, shape) for color in COLORS for shape in SHAPES]
    with torch.inference_mode():
        frames_NHWC = degrade(batch.frames_NHWC, np.random.default_rng(seed))
        image_ND = model.encode_image(as_input(frames_NHWC), normalize=True)
        asked_ND = model.encode_text(tokenizer([f"a {color} {shape}" for color, shape in names]), normalize=True)
        found = [names[place] for place in (image_ND @ asked_ND.T).argmax(1).tolist()]

        def cosine(captions: list[str]) -> NDArray[np.float32]:
            return (image_ND * model.encode_text(tokenizer(captions), normalize=True)).sum(1).numpy()

        right_N = cosine(batch.captions)
        wrong_N = {kind: cosine(captions) for kind, captions in others.items()}
    low, middle = (float(value) for value in np.percentile(right_N, (1, 50)))
    wrong_middle, wrong_high = (float(value) for value in np.percentile(wrong_N["both"], (50, 99)))
    return ClipQuality(
        retrieval=float(np.mean([name == (s.color, s.shape) for name, s in zip(found, batch.scenes, strict=True)])),
        auc_other=_auc(right_N, wrong_N["both"]),
        auc_color=_auc(right_N, wrong_N["color"]),
        auc_shape=_auc(right_N, wrong_N["shape"]),
        right=(low, middle),
        wrong=(wrong_middle, wrong_high),
    )


def draw_captions(num_captions: int, seed: int = 2_000_003) -> FrameBatch:
    """Scenes and captions to draw images for; colours and shapes in turn. The frames are those of the scenes' start."""
    rng = random.Random(seed)
    names = [(shape, color) for color in COLORS for shape in SHAPES]
    scenes = [draw_scene(rng, *names[number % len(names)]) for number in range(num_captions)]
    captions = [caption(scene, rng) for scene in scenes]
    return FrameBatch(np.empty((0, FRAME_PX, FRAME_PX, 3), np.uint8), captions, scenes)


def draw_images(
    folder: Path, captions: list[str], steps: int = 30, guidance_scale: float = 3.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Images of a diffusers folder in pixel space, by DDIM with classifier-free guidance: (N, H, W, 3) uint8."""
    backbone = load_backbone(folder)
    unet: Any = backbone.unet
    scheduler: Any = DDIMScheduler.from_config(backbone.scheduler.config, clip_sample=True)
    scheduler.set_timesteps(steps)
    rng = torch.Generator().manual_seed(seed)
    images = list[NDArray[np.uint8]]()
    for first in track(range(0, len(captions), _IMAGES_AT_ONCE), "drawing images"):
        asked = captions[first : first + _IMAGES_AT_ONCE]
        text_BLD = backbone.text_encoder.encode([*asked, *[""] * len(asked)]).hidden_BLD
        image_BCHW = torch.randn(len(asked), 3, FRAME_PX, FRAME_PX, generator=rng)
        with torch.inference_mode():
            for timestep in scheduler.timesteps:
                guess_BCHW = unet(torch.cat((image_BCHW, image_BCHW)), timestep, text_BLD).sample
                with_text, without = guess_BCHW.chunk(2)
                guided_BCHW = without + guidance_scale * (with_text - without)
                image_BCHW = scheduler.step(guided_BCHW, timestep, image_BCHW).prev_sample
        images.append(to_levels(image_BCHW.permute(0, 2, 3, 1)))
    return np.concatenate(images)


def measure_images(images_NHWC: NDArray[np.uint8], scenes: list[Scene]) -> ImageQuality:
    """Read colour and shape out of images and compare them with the scenes that their captions tell of."""
    things = [find_thing(image_HWC) for image_HWC in images_NHWC]
    color = [thing is not None and thing.color == scene.color for thing, scene in zip(things, scenes, strict=True)]
    shape = [thing is not None and thing.shape == scene.shape for thing, scene in zip(things, scenes, strict=True)]
    return ImageQuality(len(things), float(np.mean(color)), float(np.mean(shape)))


def sheet(images_NHWC: NDArray[np.uint8], cell_px: int = 96) -> Image.Image:
    """All images side by side, ten in a row."""
    rows = -(-len(images_NHWC) // _COLUMNS)
    page = Image.new("RGB", (_COLUMNS * cell_px, rows * cell_px), "white")
    for number, image_HWC in enumerate(images_NHWC):
        cell = Image.fromarray(image_HWC).resize((cell_px, cell_px), Image.Resampling.NEAREST)
        page.paste(cell, (number % _COLUMNS * cell_px, number // _COLUMNS * cell_px))
    return page


def _wrong(scene: Scene, kind: str, rng: random.Random) -> str:
    """A caption that is wrong in colour, in shape, or in both."""
    shape = rng.choice([name for name in SHAPES if name != scene.shape]) if kind != "color" else scene.shape
    color = rng.choice([name for name in COLORS if name != scene.color]) if kind != "shape" else scene.color
    return caption(dataclasses.replace(scene, shape=shape, color=color), rng)


def _auc(right_N: NDArray[np.float32], wrong_N: NDArray[np.float32]) -> float:
    """The probability that a right pair scores higher than a wrong one."""
    return float(mannwhitneyu(right_N, wrong_N).statistic / (len(right_N) * len(wrong_N)))


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with clip/ and backbone/")
    parser.add_argument("--captions", type=int, default=100, help="images to draw")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance-scale", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=None, help="PNG of the images to write")
    arguments = parser.parse_args()
    clip = measure_clip(arguments.weights / "clip")
    print(f"CLIP: right one of 24 captions found {clip.retrieval:.1%}")
    print(f"      ROC AUC of right against wrong captions {clip.auc_other:.4f}", end="")
    print(f" (wrong in colour alone {clip.auc_color:.4f}, in shape alone {clip.auc_shape:.4f})")
    print(f"      cosine, right: 1 % below {clip.right[0]:.2f}, median {clip.right[1]:.2f}; ", end="")
    print(f"wrong: median {clip.wrong[0]:.2f}, 1 % above {clip.wrong[1]:.2f}")
    batch = draw_captions(arguments.captions)
    backbone = arguments.weights / "backbone"
    images_NHWC = draw_images(backbone, batch.captions, arguments.steps, arguments.guidance_scale, arguments.seed)
    images = measure_images(images_NHWC, batch.scenes)
    print(
        f"U-Net: {images.images} images, {arguments.steps} DDIM steps, guidance {arguments.guidance_scale:g}:", end=""
    )
    print(f" colour read out {images.color:.0%}, shape {images.shape:.0%}")
    if arguments.sheet is not None:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet(images_NHWC).save(arguments.sheet)


if __name__ == "__main__":
    main()
