"""Super-resolution by an inflated upscaler on overlapping windows (properties 1 and 7)."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.inflate import InflationConfig, inflate
from stunet.sampler import Prompts, SamplerConfig, denoise, make_scheduler
from stunet.super_resolution import SsrConfig, agreeing, enlarged, low_resolution, scaled_down, super_resolve
from stunet.thresholding import Bound, clipped, thresholded
from stunet.windows import seam_ratio, seams, windowed

# diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
UPSCALERS = {
    "if": {"in_channels": 6, "class_embed_type": "timestep"},
    "sd": {"in_channels": 7, "num_class_embeds": 1000},
}


@pytest.fixture
def schedule():
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def prompts(rng, batch):
    return Prompts(torch.randn(batch, 7, 24, generator=rng), torch.zeros(1, 7, 24))


@pytest.mark.parametrize("topology", ["if", "sd"])
def test_videos_are_enlarged_in_pixels_and_in_latents_and_the_same_for_one_seed(make_unet, schedule, rng, topology):
    unet = make_unet(topology, **UPSCALERS[topology])
    stunet = inflate(unet, InflationConfig(temporal_factor=2)).eval()
    channels = 3 if topology == "if" else 4
    low, given = torch.rand(2, 3, 10, 8, 8, generator=rng) * 2 - 1, prompts(rng, 2)

    def enlarge(seeds):
        shape, config = (channels, 10, 16, 16), SamplerConfig(steps=2)
        return super_resolve(stunet, schedule, given, low, shape, config, SsrConfig(4, 2), seeds)

    made = enlarge([1, 2])
    assert made.shape == (2, channels, 10, 16, 16)
    assert torch.equal(enlarge([1, 2]), made)
    assert not torch.equal(enlarge([1, 3])[1], made[1])


def test_an_upscaler_sees_the_enlarged_frames_and_the_level_of_their_noise(make_unet, schedule, rng):
    stunet = inflate(make_unet("if", **UPSCALERS["if"])).eval()
    low, seen = torch.rand(1, 3, 6, 8, 8, generator=rng) * 2 - 1, []
    stunet.unet.register_forward_pre_hook(
        lambda module, given, named: seen.append((given[0].clone(), named["class_labels"].clone())), with_kwargs=True
    )
    config, windows = SamplerConfig(steps=1, guidance_scale=2.0), SsrConfig(window=4, overlap=2, noise_level=0)
    super_resolve(stunet, schedule, prompts(rng, 1), low, (3, 6, 16, 16), config, windows, [1])
    given, level = seen[0]
    assert given.shape == (4, 6, 4, 16, 16), "two windows, with text and without"
    assert level.tolist() == [0] * 4
    expected = low_resolution(low, (16, 16), torch.tensor([0]), torch.zeros(1, 3, 6, 16, 16), schedule)
    torch.testing.assert_close(given[0, 3:], expected[0, :, :4], atol=0.05, rtol=0)
    torch.testing.assert_close(given[1, 3:], expected[0, :, 2:], atol=0.05, rtol=0)


def test_low_resolution_frames_are_noised_to_their_level(schedule, rng):
    low, noise = torch.zeros(2, 3, 2, 4, 4), torch.randn(2, 3, 2, 8, 8, generator=rng)
    seen = low_resolution(low, (8, 8), torch.tensor([0, 400]), noise, schedule)
    expected = (1 - schedule.alphas_cumprod[[0, 400]]).sqrt()
    assert seen.flatten(1).std(1).tolist() == pytest.approx(expected.tolist(), rel=0.1)


def test_a_model_that_takes_no_low_resolution_frames_is_refused(make_unet, schedule, rng):
    stunet = inflate(make_unet("sd"))
    low, shape = torch.zeros(1, 3, 2, 8, 8), (4, 2, 16, 16)
    with pytest.raises(ValueError, match="a U-Net of 7 input channels expected, given one of 4"):
        super_resolve(stunet, schedule, prompts(rng, 1), low, shape, SamplerConfig(), SsrConfig(), [0])


def test_predictions_are_averaged_then_one_step_is_made_with_one_draw_of_noise(schedule, rng):
    """A sampler that adds noise: a frame-wise model gives the same video whatever the windows."""

    def framewise(video, timestep, given):
        return video.tanh()

    text = torch.zeros(2, 1, 1)
    noise = torch.randn(2, 3, 9, 4, 4, generator=rng)
    made = [
        denoise(denoiser, Prompts(text, text[:1]), make_scheduler(schedule, SamplerConfig("ddpm", 5)), noise, [3, 4])
        for denoiser in (framewise, windowed(framewise, 4, 2), windowed(framewise, 16, 2))
    ]
    torch.testing.assert_close(made[1], made[0])
    assert torch.equal(made[2], made[0]), "a video shorter than the window"


def test_windows_cut_what_stands_beside_the_video_and_repeat_what_is_the_videos(rng):
    beside = torch.randn(2, 4, 9, 4, 4, generator=rng)
    labels = torch.tensor([3, 8])

    def model(video, timestep, given):
        assert given.others["class_labels"].tolist() == [3, 8] * (len(video) // 2)
        return given.beside_BKTHW[:, :3]

    given = Prompts(torch.zeros(2, 1, 1), torch.zeros(1, 1, 1), beside, {"class_labels": labels})
    made = windowed(model, 4, 2)(torch.zeros(2, 3, 9, 4, 4), torch.zeros(2), given)
    torch.testing.assert_close(made, beside[:, :3])


@pytest.mark.parametrize("windows_per_batch", [1, 2, 3, 99])
def test_windows_that_pass_a_few_at_a_time_make_the_same_video(make_unet, schedule, rng, windows_per_batch):
    stunet = inflate(make_unet("if", **UPSCALERS["if"]), InflationConfig(temporal_factor=2)).eval()
    low, given, seen = torch.rand(2, 3, 10, 8, 8, generator=rng) * 2 - 1, prompts(rng, 2), []
    stunet.unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))

    def enlarge(ssr):
        shape, config = (3, 10, 16, 16), SamplerConfig(steps=2, guidance_scale=2.0)
        return super_resolve(stunet, schedule, given, low, shape, config, ssr, [1, 2])

    whole, parts = enlarge(SsrConfig(4, 2)), enlarge(SsrConfig(4, 2, windows_per_batch=windows_per_batch))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    assert seen[:2] == [16, 16], "four windows of two videos, with text and without"
    assert max(seen[2:]) == 4 * min(windows_per_batch, 4)
    with pytest.raises(ValueError, match="windows_per_batch: at least 1 expected, given 0"):
        windowed(lambda *_: whole, 4, 2, 0)


def test_noise_that_the_schedule_has_not_is_refused(make_unet, schedule, rng):
    stunet, low = inflate(make_unet("if", **UPSCALERS["if"])), torch.zeros(1, 3, 2, 8, 8)
    for level in (-1, 1000):
        ssr = SsrConfig(noise_level=level)
        with pytest.raises(ValueError, match=f"noise_level: 0 to 999 expected, given {level}"):
            super_resolve(stunet, schedule, prompts(rng, 1), low, (3, 2, 16, 16), SamplerConfig(), ssr, [0])


def test_seams_are_where_windows_begin_and_end():
    assert [frame for frame, is_seam in enumerate(seams(10, 4, 2), start=1) if is_seam] == [2, 4, 6, 8]
    assert seams(6, 4, 3) == [True, True, False, True, True]
    assert all(seams(6, 2, 1)), "a window is as long as a step: nothing but seams"
    assert not any(seams(4, 4, 2)), "one window"


def test_the_seam_ratio_sees_a_jump_where_windows_meet_and_none_where_all_is_even():
    even = torch.arange(12.0)[None, None, :, None, None].expand(1, 3, -1, 4, 4)
    assert seam_ratio(even, window=4, overlap=0) == pytest.approx(1.0)
    jumps = even + 5.0 * (torch.arange(12) // 4)[:, None, None]
    assert seam_ratio(jumps, window=4, overlap=0) == pytest.approx(6.0)
    assert seam_ratio(jumps, window=5, overlap=0) < 6.0
    with pytest.raises(ValueError, match="some borders expected in a video of 12 frames"):
        seam_ratio(even, window=12, overlap=0)


def test_a_dynamic_bound_is_the_videos_own_quantile_and_never_less_than_1(rng):
    video = torch.stack([torch.full((3, 4, 8, 8), 0.5), torch.full((3, 4, 8, 8), 3.0)])
    made = clipped(video, Bound("dynamic", 0.99))
    assert made[0].unique().tolist() == [0.5]
    assert made[1].unique().tolist() == [1.0]
    assert clipped(video, Bound("static")).amax((1, 2, 3, 4)).tolist() == [0.5, 1.0]


def test_a_video_of_more_values_than_torch_ranks_is_bounded_too():
    video = torch.zeros(1, 3, 80, 1024, 70)
    video[:, :, 40:] = 4.0
    assert video.numel() > 2**24
    assert clipped(video, Bound("dynamic", 0.9))[0, 0, 79, 0, 0] == 1.0


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_prediction_within_bounds_passes_thresholding_unchanged(rng, prediction_type):
    schedule = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction_type)
    video, noise = torch.rand(2, 2, 3, 4, 8, 8, generator=rng) * 2 - 1
    timestep = torch.tensor([200, 700])
    noisy = schedule.add_noise(video, noise, timestep)
    told = {
        "epsilon": noise,
        "v_prediction": schedule.get_velocity(video, noise, timestep),
        "sample": video,
    }[prediction_type]
    for kind in ("static", "dynamic"):
        made = thresholded(lambda *given: told, schedule, kind, 0.99)(noisy, timestep, None)
        torch.testing.assert_close(made, told, atol=2e-4, rtol=1e-4)


def test_back_projection_takes_color_from_the_small_video_and_leaves_fine_detail(rng):
    low = torch.rand(2, 3, 4, 8, 8, generator=rng) - 0.5
    checkers = 0.1 * (1 - 2 * ((torch.arange(16)[:, None] + torch.arange(16)) % 2))
    made = enlarged(low, (16, 16)) + checkers + 0.2

    def lacking(video):
        return (scaled_down(video, (8, 8)) - low).abs().mean()

    agreed = agreeing(made, low, 3)
    assert lacking(agreed) < 0.15 * lacking(made)
    detail = (agreed * checkers).mean() / checkers.square().mean()
    assert detail == pytest.approx(1, abs=0.05)
    assert torch.equal(agreeing(made, low, 0), made)
    torch.testing.assert_close(agreed[:, :, 1:2], agreeing(made[:, :, 1:2], low[:, :, 1:2], 3), msg="frames are alone")
