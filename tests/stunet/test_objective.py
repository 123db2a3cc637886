"""The objective against closed forms; draws that depend on the sample alone."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.objective import (
    Draw,
    ObjectiveConfig,
    draw,
    log_signal_to_noise,
    loss,
    noised,
    target,
    timestep_table,
    weight,
)

SHAPE = (3, 4, 8, 8)


def scheduler(prediction_type: str) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=prediction_type)


def test_a_samples_draw_does_not_depend_on_its_batch():
    config = ObjectiveConfig(text_dropout=0.5)
    whole = draw(7, range(20, 28), SHAPE, 1000, config)
    for part in ([20, 21, 22, 23], [27, 25], [24]):
        small = draw(7, part, SHAPE, 1000, config)
        rows = [index - 20 for index in part]
        assert all(torch.equal(a, b[rows]) for a, b in zip(small, whole, strict=True))
    other = draw(8, range(20, 28), SHAPE, 1000, config)
    assert not torch.equal(other.noise_BCTHW, whole.noise_BCTHW)
    assert not torch.equal(
        draw(7, [19 + 1], SHAPE, 1000, config).noise_BCTHW, draw(6, [21], SHAPE, 1000, config).noise_BCTHW
    )


def test_draws_leave_the_global_rng_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    draw(0, [1], SHAPE, 1000, ObjectiveConfig())
    assert torch.equal(torch.get_rng_state(), state)


def test_timesteps_are_uniform_and_text_is_dropped_at_its_rate():
    drawn = draw(0, range(4000), (1, 1, 1, 1), 10, ObjectiveConfig(text_dropout=0.25))
    counts = torch.bincount(drawn.timestep_B, minlength=10)
    assert counts.min() > 320
    assert counts.max() < 480
    assert drawn.is_dropped_B.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert drawn.noise_BCTHW.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("shift", [1.5, 3.0])
def test_shifted_timesteps_have_the_shifted_signal_to_noise_ratio(shift):
    alphas = scheduler("epsilon").alphas_cumprod
    log_snr = log_signal_to_noise(alphas)
    table = timestep_table(1000, shift, alphas)
    inner = slice(50, 900)
    moved = log_snr[table][inner] - log_snr[inner]
    torch.testing.assert_close(moved, torch.full_like(moved, -2 * math.log(shift)), atol=0.03, rtol=0)
    assert (table[1:] >= table[:-1]).all()


def test_a_shift_without_a_schedule_is_refused():
    with pytest.raises(ValueError, match=r"timestep_shift 2\.0: the schedule is needed"):
        draw(0, [0], SHAPE, 1000, ObjectiveConfig(timestep_shift=2.0))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_right_prediction_has_no_loss_and_a_wrong_one_its_mean_square(prediction_type, rng):
    schedule, config = scheduler(prediction_type), ObjectiveConfig(min_snr_gamma=None)
    video = torch.rand(3, *SHAPE, generator=rng) * 2 - 1
    drawn = draw(0, [0, 1, 2], SHAPE, 1000, config)
    perfect = target(video, drawn, schedule)
    assert loss(perfect, video, drawn, schedule, config).tolist() == [0, 0, 0]
    offset = torch.tensor([0.5, 1.0, 2.0])[:, None, None, None, None]
    with_variance = torch.cat([perfect + offset, torch.zeros_like(perfect)], dim=1)
    assert loss(with_variance, video, drawn, schedule, config).tolist() == pytest.approx([0.25, 1, 4], rel=1e-5)


def test_noise_and_velocity_are_those_of_the_paper(rng):
    schedule = scheduler("v_prediction")
    video = torch.rand(2, *SHAPE, generator=rng)
    drawn = draw(0, [0, 1], SHAPE, 1000, ObjectiveConfig())
    alpha = schedule.alphas_cumprod[drawn.timestep_B][:, None, None, None, None]
    noisy = alpha.sqrt() * video + (1 - alpha).sqrt() * drawn.noise_BCTHW
    torch.testing.assert_close(noised(video, drawn, schedule), noisy)
    velocity = alpha.sqrt() * drawn.noise_BCTHW - (1 - alpha).sqrt() * video
    torch.testing.assert_close(target(video, drawn, schedule), velocity)


def test_min_snr_weighs_the_error_of_the_video_alike_for_every_prediction_type(rng):
    """The same guess of the video, told as noise, velocity or video, has the same weighted loss."""
    config = ObjectiveConfig(min_snr_gamma=5.0)
    video, guess = torch.rand(2, 3, *SHAPE, generator=rng)
    noise = torch.randn(3, *SHAPE, generator=rng)
    drawn = Draw(noise, torch.tensor([150, 500, 800]), torch.zeros(3, dtype=torch.bool))
    alpha = scheduler("epsilon").alphas_cumprod.double()[drawn.timestep_B][:, None, None, None, None]
    noisy = alpha.sqrt() * video + (1 - alpha).sqrt() * noise
    epsilon = (noisy - alpha.sqrt() * guess) / (1 - alpha).sqrt()
    told = {"sample": guess, "epsilon": epsilon, "v_prediction": alpha.sqrt() * epsilon - (1 - alpha).sqrt() * guess}
    losses = {kind: loss(value, video, drawn, scheduler(kind), config) for kind, value in told.items()}
    snr = (alpha / (1 - alpha)).flatten()
    expected = snr.clamp(max=5) * (guess - video).square().flatten(1).mean(1)
    for value in losses.values():
        torch.testing.assert_close(value.double(), expected, rtol=1e-3, atol=1e-6)


def test_weights_of_epsilon_are_one_below_gamma():
    schedule = scheduler("epsilon")
    late = torch.tensor([700, 900])
    assert weight(late, schedule, ObjectiveConfig()).tolist() == pytest.approx([1, 1])
    assert weight(torch.tensor([10]), schedule, ObjectiveConfig()).item() < 0.1


@pytest.mark.parametrize(
    ("key", "value"), [("timestep_shift", 4.0), ("min_snr_gamma", 0.0), ("text_dropout", 1.5), ("timestep_shift", 0.5)]
)
def test_values_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=f"{key}: .* given {value}"):
        ObjectiveConfig(**{key: value})


def test_an_unknown_prediction_type_is_refused():
    drawn = draw(0, [0], SHAPE, 1000, ObjectiveConfig())
    schedule = DDPMScheduler(prediction_type="flow")
    with pytest.raises(ValueError, match="prediction_type: epsilon, v_prediction or sample expected, given 'flow'"):
        target(torch.zeros(1, *SHAPE), drawn, schedule)
