"""Configuration of `jobs/generate.py`. Imports nothing heavy: a mistake is told within two seconds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.cluster import RayConfig
from pipelines.config import Config
from pipelines.tracking import TrackingConfig


class SamplerSettings(Config):
    """How a video is denoised; see `stunet.sampler.SamplerConfig`."""

    scheduler: Literal["ddim", "dpm++"] = Field(default="dpm++", description="DDIM, or DPM-Solver++ 2M")
    steps: int = Field(default=25, ge=1, description="denoising steps, two evaluations of the model each")
    guidance_scale: float = Field(default=3.0, ge=1, description="of classifier-free guidance; 1: none")
    guidance_rescale: float = Field(
        default=0.0, ge=0, le=1, description="share of the guided spread that is pulled back"
    )
    thresholding: Literal["none", "static", "dynamic"] = Field(default="none", description="of the predicted video")
    dynamic_quantile: float = Field(default=0.995, gt=0, le=1, description="of dynamic thresholding, one a video")
    timestep_shift: float = Field(default=1.0, ge=1, le=3, description="s of logSNR' = logSNR - 2 log s; dpm++ only")

    @model_validator(mode="after")
    def _shifted_grid(self) -> Self:
        if self.timestep_shift != 1.0 and self.scheduler != "dpm++":
            raise ValueError(f"timestep_shift: only dpm++ takes a shifted grid, given {self.scheduler}")
        return self


class GenerateConfig(Config):
    """Make videos from a checkpoint."""

    checkpoint: str | None = Field(
        default=None, description="folder of trained temporal weights, or of the run; null: the un-trained inflation"
    )
    backbone: str = Field(default="demo/weights/backbone", description="diffusers folder of the image model")
    requests: str | None = Field(
        default=None, description="CSV or JSONL with `prompt`, and `prompt_id` and `seed` if you like"
    )
    task: Literal["text_to_video"] = Field(
        default="text_to_video", description="of the one request that `prompt` makes"
    )
    prompt: str | None = Field(default=None, description="one request, instead of a file of them")
    out: str = Field(description="folder of the videos, shared by all workers: PROMPT_ID.mp4 and PROMPT_ID.json")
    frames: int | None = Field(default=None, ge=1, description="length of a video; null: that of training, else 16")
    fps: float | None = Field(default=None, gt=0, description="frames per second; null: that of training, else 8")
    size_px: int | None = Field(
        default=None, ge=8, description="side of a video, even; null: that of training, else the U-Net's"
    )
    sampler: SamplerSettings = SamplerSettings()
    seed: int = Field(
        default=0, ge=0, description="of the first request; the next ones count on, where the file has no seeds"
    )
    batch_size: int = Field(default=1, ge=1, description="videos denoised at once; more than 1 gains nothing on a CPU")
    actors: int | None = Field(
        default=None, ge=1, description="processes that hold the model; null: as the cluster allows"
    )
    cpus_per_actor: int = Field(
        default=1, ge=1, description="CPUs that Ray reserves for each, and threads that torch uses"
    )
    gpus_per_actor: int = Field(default=0, ge=0, le=1, description="1 generates on GPUs")
    sheet_rows: int = Field(default=12, ge=1, description="videos on the tracker's contact sheet")
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.requests is None) == (self.prompt is None):
            given = "neither" if self.prompt is None else "both"
            raise ValueError(f"requests, prompt: one of them is expected, {given} given")
        return self
