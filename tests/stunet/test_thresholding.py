"""What keeps the predicted video in its range: asked for, or as the backbone's own scheduler says."""

import json
import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.inflate import inflate
from stunet.sampler import Prompts, SamplerConfig, sample
from stunet.thresholding import Bound, clipped, resolved, thresholded

DEEPFLOYD_IF = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.95,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.5,
    "thresholding": True,
    "trained_betas": None,
    "variance_type": "learned_range",
}


@pytest.fixture
def scheduler() -> DDPMScheduler:
    return DDPMScheduler.from_config(DEEPFLOYD_IF)


def test_auto_is_what_the_backbones_scheduler_says_of_pixels(scheduler):
    assert resolved("auto", scheduler, 0.5, channels=3) == Bound("dynamic", 0.95, 1.5)
    assert resolved("auto", scheduler, 0.5, channels=4).kind == "none", "diffusers: unsuitable for latents"
    assert resolved("auto", DDPMScheduler(), 0.5, channels=3).kind == "none"
    assert resolved("dynamic", scheduler, 0.5, channels=3) == Bound("dynamic", 0.5, math.inf), "what is asked counts"
    assert resolved("none", scheduler, 0.5, channels=3).kind == "none"


@pytest.mark.parametrize("name", ["backbone", "upscaler"])
def test_auto_is_none_for_the_demos_models_whose_schedulers_say_clip_sample_alone(root, name):
    file = root / "demo" / "weights" / name / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    assert config["clip_sample"] is True
    assert resolved("auto", DDPMScheduler.from_config(config), 0.995, channels=3).kind == "none"


def test_auto_bounds_the_predicted_video_as_diffusers_does(scheduler, rng):
    clean = torch.randn(2, 3, 4, 8, 8, generator=rng) * torch.tensor([0.3, 4.0])[:, None, None, None, None]
    told = scheduler.config
    expected = scheduler._threshold_sample(clean)
    bound = resolved("auto", scheduler, 0.5, channels=3)
    torch.testing.assert_close(clipped(clean, bound), expected)
    assert clipped(clean, bound)[1].abs().max() == 1.0
    assert told.sample_max_value < clean[1].abs().quantile(told.dynamic_thresholding_ratio), "the bound is reached"


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_thresholding_of_latents_is_refused_by_its_key(scheduler, kind):
    text = torch.zeros(1, 1, 1)
    message = f"thresholding: none or auto expected in latent space, given {kind}: .* latents of 4"
    with pytest.raises(ValueError, match=message):
        sample(None, scheduler, Prompts(text, text), (4, 2, 8, 8), SamplerConfig(thresholding=kind), [0])
    with pytest.raises(ValueError, match=message):
        thresholded(None, scheduler, kind, 0.9)(torch.zeros(1, 4, 2, 8, 8), torch.zeros(1), None)


def test_latents_beyond_1_are_left_as_they_are_by_auto(scheduler):
    answer = torch.full((1, 4, 2, 8, 8), 4.0)
    world = DDPMScheduler.from_config({**DEEPFLOYD_IF, "prediction_type": "sample"})
    text = torch.zeros(1, 1, 1)
    made = sample(
        lambda video, timestep, text: answer.expand_as(video),
        world,
        Prompts(text, text),
        (4, 2, 8, 8),
        SamplerConfig(steps=4, guidance_scale=1.0),
        [0],
    )
    torch.testing.assert_close(made, answer)


@pytest.mark.parametrize("thresholding", ["auto", "static", "dynamic"])
@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm++", "unipc"])
def test_where_hardly_any_signal_is_left_no_infinity_comes_out(make_unet, rng, scheduler, name, thresholding):
    """The last timestep of a cosine schedule has a signal of 5e-5, by which epsilon's video is divided."""
    stunet = inflate(make_unet("if")).eval()
    prompts = Prompts(torch.randn(1, 7, 24, generator=rng), torch.zeros(1, 7, 24))
    config = SamplerConfig(scheduler=name, steps=4, guidance_scale=7.0, thresholding=thresholding)
    made = sample(stunet, scheduler, prompts, (3, 8, 16, 16), config, [1])
    assert made.isfinite().all()
    assert made.abs().max() <= 1
    assert made.std() > 0.01


def test_a_schedule_that_ends_without_any_signal_gives_finite_predictions(rng):
    schedule = DDPMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True)
    assert schedule.alphas_cumprod[-1] == 0
    video, noise = torch.randn(2, 1, 3, 2, 4, 4, generator=rng)
    for kind in ("static", "dynamic"):
        made = thresholded(lambda *given: noise, schedule, kind, 0.9)(video, torch.tensor([999]), None)
        assert made.isfinite().all()
