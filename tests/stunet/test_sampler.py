"""Sampling against a denoiser that knows the answer, and on a real STUNet: same seed, same video."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.edit import sdedit
from stunet.inflate import inflate
from stunet.sampler import Prompts, SamplerConfig, denoise, guided, make_scheduler, rescaled, sample
from stunet.windows import window_starts, windowed

# diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
SHAPE = (3, 4, 8, 8)


def ddpm(prediction_type: str = "v_prediction") -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction_type)


def knowing(answer, schedule):
    """The perfect model of a world with one video: it tells `answer` in the schedule's prediction type."""

    def predict(video, timestep, text):
        alpha = schedule.alphas_cumprod.double()[timestep.long()][:, None, None, None, None]
        epsilon = (video - alpha.sqrt() * answer) / (1 - alpha).sqrt()
        told = {
            "epsilon": epsilon,
            "v_prediction": alpha.sqrt() * epsilon - (1 - alpha).sqrt() * answer,
            "sample": answer.expand_as(video),
        }
        return told[schedule.config.prediction_type].to(video.dtype)

    return predict


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm++", "unipc"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_model_that_knows_the_video_makes_it(rng, name, prediction_type):
    answer = torch.rand(1, *SHAPE, generator=rng) * 2 - 1
    schedule, text = ddpm(prediction_type), torch.zeros(2, 1, 1)
    config = SamplerConfig(scheduler=name, steps=10, guidance_scale=4.0)
    made = sample(knowing(answer, schedule), schedule, Prompts(text, text[:1]), SHAPE, config, [1, 2])
    torch.testing.assert_close(made, answer.expand_as(made), atol=2e-3, rtol=0)


@pytest.mark.parametrize("shift", [1.5, 3.0])
def test_a_shifted_grid_ends_in_the_same_video(rng, shift):
    answer = torch.rand(1, *SHAPE, generator=rng) * 2 - 1
    schedule, text = ddpm(), torch.zeros(1, 1, 1)
    config = SamplerConfig(steps=10, timestep_shift=shift)
    grids = [make_scheduler(schedule, SamplerConfig(steps=10)).timesteps, make_scheduler(schedule, config).timesteps]
    assert (grids[1][1:] > grids[0][1:]).all()
    made = sample(knowing(answer, schedule), schedule, Prompts(text, text), SHAPE, config, [1])
    torch.testing.assert_close(made, answer, atol=2e-3, rtol=0)


def test_the_spread_of_the_world_is_kept(rng):
    """For videos drawn from N(0, 0.5^2) the ideal denoiser is known; its samples have that spread."""
    schedule, text = ddpm("sample"), torch.zeros(8, 1, 1)

    def ideal(video, timestep, text):
        alpha = schedule.alphas_cumprod[timestep.long()][:, None, None, None, None]
        return video * alpha.sqrt() * 0.25 / (alpha * 0.25 + 1 - alpha)

    for name in ("ddim", "ddpm", "dpm++", "unipc"):
        config = SamplerConfig(scheduler=name, steps=50, guidance_scale=1.0)
        noise = torch.randn(8, 4, 4, 16, 16, generator=rng)
        made = denoise(guided(ideal, config), Prompts(text, text), make_scheduler(schedule, config), noise, range(8))
        # The variance of `ddpm` is that of a world of one video: in few steps it falls a little short.
        assert made.std().item() == pytest.approx(0.5, abs=0.04 if name == "ddpm" else 0.02)


def test_guidance_moves_away_from_the_prediction_without_text_and_drops_a_learned_variance():
    def model(video, timestep, text):
        assert len(video) == len(timestep) == len(text) == 4
        return torch.cat([text[:, :, :1, None, None].expand_as(video), torch.full_like(video, 9)], dim=1)

    text, null = torch.tensor([1.0, 2.0])[:, None, None], torch.tensor([[[0.5]]])
    made = guided(model, SamplerConfig(guidance_scale=3.0))(torch.zeros(2, *SHAPE), torch.zeros(2), Prompts(text, null))
    assert made.shape == (2, *SHAPE)
    assert made[0].unique().tolist() == [0.5 + 3 * 0.5]
    assert made[1].unique().tolist() == [0.5 + 3 * 1.5]


def test_rescaled_guidance_has_the_spread_of_the_conditional_prediction(rng):
    conditional = torch.randn(2, *SHAPE, generator=rng)
    strong = conditional * torch.tensor([3.0, 5.0])[:, None, None, None, None]
    assert rescaled(strong, conditional, 0.0) is strong
    torch.testing.assert_close(rescaled(strong, conditional, 1.0), conditional)


@pytest.mark.parametrize("thresholding", ["static", "dynamic"])
@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm++", "unipc"])
def test_thresholding_takes_one_quantile_a_video_never_one_a_frame(name, thresholding):
    """A video whose second half is twice as bright stays so: only the whole is scaled, or clipped."""
    answer = torch.ones(1, *SHAPE)
    answer[:, :, 2:] = 2.0
    schedule, text = ddpm("sample"), torch.zeros(1, 1, 1)
    config = SamplerConfig(scheduler=name, steps=5, guidance_scale=1.0, thresholding=thresholding, dynamic_quantile=1.0)
    made = sample(knowing(answer, schedule), schedule, Prompts(text, text), SHAPE, config, [0])
    expected = {"static": [1.0, 1.0], "dynamic": [0.5, 1.0]}[thresholding]
    assert [made[:, :, 0].mean().item(), made[:, :, 3].mean().item()] == pytest.approx(expected, abs=1e-3)


def test_the_same_seed_makes_the_same_video(make_unet, rng):
    stunet, schedule = inflate(make_unet("sd", in_channels=3, out_channels=3)).eval(), ddpm()
    text, null = torch.randn(2, 7, 24, generator=rng), torch.zeros(1, 7, 24)
    config = SamplerConfig(steps=3)
    shape = (3, 8, 16, 16)
    made = sample(stunet, schedule, Prompts(text, null), shape, config, [5, 6])
    assert torch.equal(sample(stunet, schedule, Prompts(text, null), shape, config, [5, 6]), made)
    assert not torch.equal(sample(stunet, schedule, Prompts(text, null), shape, config, [5, 7])[1], made[1])
    assert made.abs().max() <= 1
    # In another batch the order of additions may differ in the last bits, and nothing else.
    alone = sample(stunet, schedule, Prompts(text[1:], null), shape, config, [6])
    torch.testing.assert_close(alone[0], made[1], atol=1e-4, rtol=0)


def test_progress_is_told_after_each_step():
    schedule, text, done = ddpm("sample"), torch.zeros(1, 1, 1), list[int]()
    sample(lambda v, t, x: v, schedule, Prompts(text, text), SHAPE, SamplerConfig(steps=4), [0], done.append)
    assert done == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scheduler": "euler"}, "scheduler: one of ddim, ddpm, .* expected, given 'euler'"),
        ({"steps": 0}, "steps: at least 1"),
        ({"thresholding": "hard"}, "thresholding: one of auto, none, static, dynamic expected, given 'hard'"),
        ({"guidance_rescale": 2.0}, "guidance_rescale: 0 to 1"),
        ({"scheduler": "unipc", "timestep_shift": 2.0}, r"timestep_shift: ddim, ddpm and dpm\+\+ take .* given unipc"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**values)
    with pytest.raises(ValueError, match="seeds: one a video expected, given 1 for 2"):
        sample(None, None, Prompts(torch.zeros(2, 1, 1), torch.zeros(1, 1, 1)), SHAPE, SamplerConfig(), [0])


@pytest.mark.parametrize(
    ("num_frames", "window", "overlap"), [(80, 16, 2), (17, 16, 2), (16, 16, 0), (5, 16, 2), (9, 4, 3)]
)
def test_windows_cover_every_frame_and_a_framewise_denoiser_does_not_see_them(rng, num_frames, window, overlap):
    starts = window_starts(num_frames, window, overlap)
    covered = {frame for start in starts for frame in range(start, min(start + window, num_frames))}
    assert covered == set(range(num_frames))
    video = torch.randn(2, 3, num_frames, 4, 4, generator=rng)
    text = torch.tensor([1.0, 2.0])[:, None, None]

    def framewise(video, timestep, prompts):
        assert video.shape[2] == min(window, num_frames)
        assert prompts.text_BLD.shape[0] == len(video) == len(timestep)
        return video.tanh() * prompts.text_BLD[..., None, None]

    prompts = Prompts(text, text[:1])
    made = windowed(framewise, window, overlap)(video, torch.zeros(2), prompts)
    torch.testing.assert_close(made, video.tanh() * text[..., None, None])


def test_overlapping_predictions_are_averaged():
    def counting(video, timestep, prompts):  # every window predicts its own number
        return torch.arange(len(video), dtype=torch.float32)[:, None, None, None, None].expand_as(video)

    made = windowed(counting, 4, 2)(
        torch.zeros(1, 1, 8, 1, 1), torch.zeros(1), Prompts(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    )
    assert made.flatten().tolist() == [0, 0, 0.5, 0.5, 1.5, 1.5, 2, 2]
    with pytest.raises(ValueError, match="overlap: 0 to 3 frames expected for windows of 4, given 4"):
        windowed(counting, 4, 4)(torch.zeros(1, 1, 8, 1, 1), torch.zeros(1), None)


@pytest.mark.parametrize("name", ["ddim", "dpm++"])
def test_sdedit_of_strength_0_returns_the_input_and_of_more_strength_moves_further(rng, name):
    answer, source = torch.rand(2, 1, *SHAPE, generator=rng) * 2 - 1
    schedule, prompts = ddpm("sample"), Prompts(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    config = SamplerConfig(scheduler=name, steps=10, guidance_scale=1.0)

    def half_sure(video, timestep, text):  # keeps half of what it sees
        alpha = schedule.alphas_cumprod[timestep.long()][:, None, None, None, None]
        return 0.5 * answer + 0.5 * video * alpha.sqrt()

    def edit(strength):
        denoiser = guided(half_sure, config)
        return sdedit(denoiser, prompts, make_scheduler(schedule, config), source, strength, [3])

    assert torch.equal(edit(0.0), source)
    distances = [(edit(strength) - source).square().mean().item() for strength in (0.2, 0.5, 1.0)]
    assert distances == sorted(distances)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))[None]
    whole = denoise(guided(half_sure, config), prompts, make_scheduler(schedule, config), noise, [3])
    torch.testing.assert_close(edit(1.0), whole, atol=0.05, rtol=0)
    with pytest.raises(ValueError, match=r"strength: 0 to 1 expected, given 1\.5"):
        edit(1.5)
