"""The schedules and sampler configurations that real backbones come with, shifted and not."""

import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.objective import ObjectiveConfig, draw, log_signal_to_noise, timestep_table
from stunet.sampler import Prompts, SamplerConfig, denoise, guided, make_scheduler

# diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
LATENT = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
OLD_KEYS = {"clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1}
BACKBONES = {
    "SD 1.5": {"_class_name": "PNDMScheduler", **LATENT, **OLD_KEYS, "trained_betas": None},
    "SD 2.1": {"_class_name": "DDIMScheduler", **LATENT, **OLD_KEYS, "prediction_type": "v_prediction"},
    "SDXL": {
        "_class_name": "EulerDiscreteScheduler",
        **LATENT,
        **OLD_KEYS,
        "interpolation_type": "linear",
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    },
    "IF": {
        "_class_name": "DDPMScheduler",
        "beta_schedule": "squaredcos_cap_v2",
        "dynamic_thresholding_ratio": 0.95,
        "prediction_type": "epsilon",
        "sample_max_value": 1.5,
        "thresholding": True,
        "variance_type": "learned_range",
    },
    "Karras": {"_class_name": "DPMSolverMultistepScheduler", **LATENT, "use_karras_sigmas": True},
    "exponential": {"_class_name": "DPMSolverMultistepScheduler", **LATENT, "use_exponential_sigmas": True},
    "lambdas": {
        "_class_name": "DPMSolverMultistepScheduler",
        **LATENT,
        "use_lu_lambdas": True,
        "lambda_min_clipped": -5.1,
    },
    "SDE": {
        "_class_name": "DPMSolverMultistepScheduler",
        **LATENT,
        "algorithm_type": "sde-dpmsolver",
        "final_sigmas_type": "sigma_min",
        "solver_order": 3,
    },
    "zero SNR": {
        "_class_name": "DDIMScheduler",
        **LATENT,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    },
    "own betas": {
        "_class_name": "DDPMScheduler",
        "beta_schedule": "linear",
        "trained_betas": [0.01] * 200 + [0.03] * 100,
        "num_train_timesteps": 300,
    },
}
SAMPLERS = [("ddim", 1.0), ("ddim", 2.0), ("ddpm", 2.0), ("dpm++", 1.0), ("dpm++", 2.0), ("unipc", 1.0)]


def training_schedule(name):
    """As `load_backbone` makes it."""
    return DDPMScheduler.from_config(BACKBONES[name])


def knowing(answer, schedule):
    """The perfect model of a world with one video, in epsilon or v."""

    def predict(video, timestep, text):
        alpha = schedule.alphas_cumprod.double()[timestep.long()][:, None, None, None, None]
        epsilon = (video - alpha.sqrt() * answer) / (1 - alpha).sqrt()
        if schedule.config.prediction_type == "epsilon":
            return epsilon.to(video.dtype)
        return (alpha.sqrt() * epsilon - (1 - alpha).sqrt() * answer).to(video.dtype)

    return predict


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbones_schedule_is_sampled_to_the_video_whatever_its_own_sampler_was(rng, backbone, sampler):
    schedule = training_schedule(backbone)
    answer = torch.rand(1, 4, 2, 4, 4, generator=rng) * 2 - 1
    config = SamplerConfig(scheduler=sampler[0], steps=12, guidance_scale=1.0, timestep_shift=sampler[1])
    made = make_scheduler(schedule, config)
    assert len(made.timesteps) == 12
    assert made.timesteps[0] == schedule.config.num_train_timesteps - 1
    assert made.config.prediction_type == BACKBONES[backbone].get("prediction_type", "epsilon")
    torch.testing.assert_close(made.alphas_cumprod[:-1], schedule.alphas_cumprod[:-1])
    text, noise = torch.zeros(1, 1, 1), torch.randn(answer.shape, generator=rng)
    video = denoise(guided(knowing(answer, schedule), config), Prompts(text, text), made, noise, [0])
    torch.testing.assert_close(video, answer, atol=2e-3, rtol=0)


@pytest.mark.parametrize("shift", [1.5, 2.0, 3.0])
def test_a_schedule_that_ends_early_is_not_drawn_at_its_last_timestep_over_and_over(shift):
    alphas = training_schedule("SD 1.5").alphas_cumprod
    assert log_signal_to_noise(alphas)[-1] == pytest.approx(-5.4, abs=0.1)
    table = timestep_table(1000, shift, alphas)
    assert table[-1] == 999
    assert (table.diff() >= 0).all()
    assert table.bincount().max() <= 2
    drawn = draw(0, range(2000), (1, 1, 1, 1), 1000, ObjectiveConfig(timestep_shift=shift), alphas).timestep_B
    assert (drawn >= 990).float().mean() < 0.03
    assert drawn.float().mean() > 999 / 2 * 1.05, "there is more noise than without"


def test_the_truncated_distribution_is_that_of_the_shifted_timesteps_below_the_schedules_end():
    """Closed form: time i t*/999 has logSNR + 2 log s of what the table gives, t* that of the last timestep."""
    alphas, shift = training_schedule("SDXL").alphas_cumprod, 2.0
    log_snr = log_signal_to_noise(alphas)
    last = int((log_snr > log_snr[-1] + 2 * math.log(shift)).sum())
    assert 860 < last < 890
    table = timestep_table(1000, shift, alphas)
    for i in (200, 500, 800, 950):
        source = round(i * last / 999)
        assert (log_snr[table[i]] - log_snr[source]).item() == pytest.approx(-2 * math.log(shift), abs=0.02)


@pytest.mark.parametrize("shift", [1.5, 2.0, 3.0])
def test_of_a_cosine_schedule_no_timestep_is_cut(shift):
    """0 of 1000 entries are other than the nearest timestep of the shifted logSNR."""
    alphas = training_schedule("IF").alphas_cumprod
    log_snr = log_signal_to_noise(alphas)
    nearest = (log_snr[None] - (log_snr[:, None] - 2 * math.log(shift))).abs().argmin(1)
    assert (timestep_table(1000, shift, alphas) != nearest).sum() == 0


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm++"])
@pytest.mark.parametrize("backbone", ["SD 1.5", "IF", "zero SNR"])
def test_a_grid_has_exactly_as_many_distinct_timesteps_as_there_are_steps(backbone, name):
    schedule = training_schedule(backbone)
    for shift in (1.0, 2.0, 3.0):
        for steps in (1, 2, 25, 61, 500, 999, 1000):  # of 61 diffusers' own grid makes 62, the last at -1
            config = SamplerConfig(scheduler=name, steps=steps, timestep_shift=shift)
            timesteps = make_scheduler(schedule, config).timesteps
            assert len(timesteps) == steps
            assert (timesteps[:-1] > timesteps[1:]).all()
            assert timesteps[0] == 999
            assert timesteps[-1] >= 0


def test_more_steps_than_timesteps_are_refused_and_so_is_a_number_that_unipc_miscounts():
    schedule = training_schedule("SD 1.5")
    with pytest.raises(ValueError, match="steps: at most the schedule's 1000 timesteps expected, given 1001"):
        make_scheduler(schedule, SamplerConfig(steps=1001))
    with pytest.raises(ValueError, match="steps: diffusers' unipc cannot make 61"):
        make_scheduler(schedule, SamplerConfig("unipc", steps=61))


@pytest.mark.parametrize("backbone", ["SD 2.1", "IF"])
def test_ddim_makes_what_diffusers_ddim_makes(rng, backbone):
    schedule, text = training_schedule(backbone), torch.zeros(1, 1, 1)
    noise = torch.randn(1, 4, 2, 8, 8, generator=rng)
    config = SamplerConfig(scheduler="ddim", steps=20, guidance_scale=1.0)

    def model(video, timestep, text):
        return (video * (1 + timestep[:, None, None, None, None] / 1000)).tanh()

    theirs = DDIMScheduler.from_config(
        schedule.config, timestep_spacing="trailing", clip_sample=False, thresholding=False, set_alpha_to_one=True
    )
    theirs.set_timesteps(20)
    made, expected = (
        denoise(guided(model, config), Prompts(text, text), scheduler, noise, [0])
        for scheduler in (make_scheduler(schedule, config), theirs)
    )
    torch.testing.assert_close(made, expected, atol=1e-3, rtol=1e-3)
