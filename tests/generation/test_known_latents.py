"""C and M mean the same in pixels and behind a VAE, and what is blank costs the VAE nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from pipelines.training.latents import known_latents, to_latents
from stunet import conditions
from stunet.tasks import TaskConfig, draw_tasks


@pytest.fixture(scope="module")
def vae(sdxl: Path) -> AutoencoderKL:
    """It halves the side."""
    return AutoencoderKL.from_pretrained(sdxl / "vae").eval().requires_grad_(False)


@pytest.fixture
def num_coded(vae: AutoencoderKL) -> Iterator[list[int]]:
    """Frames that passed the encoder, call by call."""
    seen: list[int] = []
    hook = vae.encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    yield seen
    hook.remove()


def test_text_alone_does_not_pass_the_vae_and_of_an_image_one_frame_does(vae, num_coded, rng):
    nothing = known_latents(conditions.nothing(torch.zeros(2, 3, 6, 16, 16)), vae, "cpu")
    assert nothing.video_BCTHW.shape == (2, 4, 6, 8, 8)
    assert nothing.mask_B1THW.shape == (2, 1, 6, 8, 8)
    assert not nothing.beside.any()
    assert num_coded == []
    image = torch.rand(2, 3, 16, 16, generator=rng) * 2 - 1
    known = known_latents(conditions.image_to_video(image, 6), vae, "cpu")
    assert num_coded == [2]
    torch.testing.assert_close(known.video_BCTHW[:, :, :1], to_latents(image[:, :, None], vae))
    assert not known.video_BCTHW[:, :, 1:].any()
    assert known.mask_B1THW[:, :, 0].all()


def test_a_cinemagraph_shows_its_image_in_every_frame_of_c_in_latents_too(vae, rng):
    """As in pixels: the moving region's M is 0, its C is the image (section 4)."""
    image, moving = torch.rand(1, 3, 16, 16, generator=rng) * 2 - 1, torch.zeros(1, 1, 16, 16)
    moving[..., :8] = 1
    pixels = conditions.cinemagraph(image, moving, 4)
    assert (pixels.video_BCTHW == image[:, :, None]).all()
    known = known_latents(pixels, vae, "cpu")
    torch.testing.assert_close(known.video_BCTHW, to_latents(image[:, :, None], vae).expand(-1, -1, 4, -1, -1))
    assert known.mask_B1THW[:, :, 1:, :, :4].sum() == 0
    assert known.mask_B1THW[:, :, 1:, :, 4:].all()
    assert known.mask_B1THW[:, :, 0].all()


def test_what_inpainting_fills_is_blank_in_latents_and_half_known_patches_count_as_unknown(vae, rng):
    video, fill = torch.rand(1, 3, 2, 16, 16, generator=rng) * 2 - 1, torch.zeros(1, 1, 2, 16, 16)
    fill[..., :5] = 1  # two latents, and half of a third
    known = known_latents(conditions.inpainting(video, fill), vae, "cpu")
    assert not known.video_BCTHW[..., :3].any()
    assert not known.mask_B1THW[..., :3].any()
    assert known.video_BCTHW[..., 3:].all()
    assert known.mask_B1THW[..., 3:].all()


def test_training_shows_a_cinemagraphs_image_as_generation_does(vae):
    """The same conditions by the same function: `draw_tasks` is what training gives to `known_latents`."""
    video = torch.rand(1, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.01 + 0.2
    video[..., 1:, 4:8, 4:8] += 0.5
    drawn = draw_tasks(0, [0], video, TaskConfig(text_to_video=0, cinemagraph=1, dropout=0))
    known = known_latents(drawn.known, vae, "cpu")
    first = to_latents(video[:, :, :1], vae)
    assert not known.mask_B1THW.all()
    torch.testing.assert_close(known.video_BCTHW, first.expand(-1, -1, 4, -1, -1))


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)
