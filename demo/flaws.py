"""What can be wrong with a clip, done to good ones on purpose: each flaw has the one verdict it must get.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.captions import caption
from demo.encode import encode_audio
from demo.render import render
from demo.scene import BACKGROUNDS, COLORS, SHAPES, Scene

Frames = NDArray[np.uint8]

VERDICTS = {
    "still": "still",
    "dark": "too_dark",
    "cut": "cut",
    "letterboxed": "letterboxed",
    "blurred": "blurry",
    "short": "too_short",
    "truncated": "unreadable",
    "flipped": "corrupt",
    "text": "unreadable",
    "audio": "no_video",
    "duplicate": "duplicate",
    "wrong_caption": "misaligned",
    "empty_caption": "caption_missing",
    "html_caption": "caption_invalid",
}
"""Flaw -> the verdict that curation owes it, true by the way the flaw is made."""
_CUT_S = 1.0
_DARKNESS = 0.12
_BLUR_SIGMA = 0.13
"""Sides of the centred square."""
_BARS = 0.22
"""Share of the height under the two bars together."""
_FLIPPED_SHARE = 0.02


def still(scene: Scene, times_s: Sequence[float], width: int, height: int) -> Frames:
    """The scene's first moment, all the time."""
    return np.repeat(render(scene, [0.0], width, height), len(times_s), axis=0)


def dark(scene: Scene, times_s: Sequence[float], width: int, height: int) -> Frames:
    """The scene with an eighth of its light."""
    return (render(scene, times_s, width, height) * _DARKNESS).astype(np.uint8)


def cut(scene: Scene, times_s: Sequence[float], width: int, height: int) -> Frames:
    """Another scene from the first second on, on the background that differs most in brightness."""
    brightness = {name: sum(color) for name, color in BACKGROUNDS.items()}
    other = max(BACKGROUNDS, key=lambda name: abs(brightness[name] - brightness[scene.background]))
    after = dataclasses.replace(scene, background=other, background_rgb=BACKGROUNDS[other], sideways=-scene.sideways)
    num_before = sum(time_s < _CUT_S for time_s in times_s)
    pieces = (
        render(scene, times_s[:num_before], width, height),
        render(after, [time_s - _CUT_S for time_s in times_s[num_before:]], width, height),
    )
    return np.concatenate(pieces)


def letterboxed(scene: Scene, times_s: Sequence[float], width: int, height: int) -> Frames:
    """The scene between two black bars. For frames that are not upright, so that a centre crop keeps the bars."""
    bar = round(height * _BARS / 2)
    frames_THWC = np.zeros((len(times_s), height, width, 3), np.uint8)
    frames_THWC[:, bar : height - bar] = render(scene, times_s, width, height - 2 * bar)
    return frames_THWC


def blurred(scene: Scene, times_s: Sequence[float], width: int, height: int) -> Frames:
    """The scene out of focus."""
    sigma_px = _BLUR_SIGMA * min(width, height)
    frames_THWC = render(scene, times_s, width, height)
    soft = (cv2.GaussianBlur(frame, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE) for frame in frames_THWC)
    return np.stack([frame.astype(np.uint8, copy=False) for frame in soft])


PICTURE: dict[str, Callable[[Scene, Sequence[float], int, int], Frames]] = {
    "still": still,
    "dark": dark,
    "cut": cut,
    "letterboxed": letterboxed,
    "blurred": blurred,
}
"""Flaws of the picture: (scene, times in seconds, width, height) -> (T, H, W, 3)."""


def truncated(data: bytes, rng: random.Random) -> bytes:
    """The first half of the file. Its index stands at the end, and is gone."""
    return data[: round(len(data) * rng.uniform(0.4, 0.6))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One bit in each of many bytes of the coded frames, none in the index and in the first frame's head."""
    begin, end = data.index(b"mdat") + 1024, data.rindex(b"moov") - 4
    damaged = bytearray(data)
    for place in rng.sample(range(begin, end), round(_FLIPPED_SHARE * (end - begin))):
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def text(data: bytes, rng: random.Random) -> bytes:
    """No video at all, whatever its name says."""
    return f"This is a note of {rng.randint(100, 999)} words that somebody named like a video.\n".encode() * 40


def audio(data: bytes, rng: random.Random) -> bytes:
    """Sound without a picture."""
    return encode_audio(rng.uniform(2.5, 4.0))


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": truncated,
    "flipped": flipped,
    "text": text,
    "audio": audio,
}
"""Flaws of the file: its bytes (mp4, index behind the frames) -> other bytes."""


def wrong_caption(scene: Scene, rng: random.Random) -> str:
    """A caption of another shape in another colour."""
    shape = rng.choice([name for name in SHAPES if name != scene.shape])
    color = rng.choice([name for name in COLORS if name != scene.color])
    return caption(dataclasses.replace(scene, shape=shape, color=color), rng)


def empty_caption(scene: Scene, rng: random.Random) -> str:
    """No words."""
    return rng.choice(["", " ", "   "])


def html_caption(scene: Scene, rng: random.Random) -> str:
    """A true caption with the markup of the page it came from."""
    words = caption(scene, rng)
    return rng.choice([f"<p>{words}</p>", f"{words}<br>", f'<a href="clip.html">{words}</a>', f"&nbsp;{words}"])


CAPTION: dict[str, Callable[[Scene, random.Random], str]] = {
    "wrong_caption": wrong_caption,
    "empty_caption": empty_caption,
    "html_caption": html_caption,
}
"""Flaws of the caption: the scene -> words."""
