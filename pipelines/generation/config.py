"""Configuration of `jobs/generate.py`. Imports nothing heavy: a mistake is told within two seconds."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.cluster import RayConfig
from pipelines.config import Config
from pipelines.tracking import TrackingConfig

TaskName = Literal[
    "text_to_video",
    "image_to_video",
    "inpainting",
    "object_replacement",
    "outpainting",
    "cinemagraph",
    "stylisation",
    "super_resolution",
]


class SamplerSettings(Config):
    """How a video is denoised; see `stunet.sampler.SamplerConfig`."""

    scheduler: Literal["ddim", "ddpm", "dpm++", "unipc"] = Field(
        default="dpm++", description="DDIM, DDPM, DPM-Solver++ 2M, or UniPC"
    )
    steps: int = Field(default=25, ge=1, description="denoising steps, two evaluations of the model each")
    guidance_scale: float = Field(default=3.0, ge=1, description="of classifier-free guidance; 1: none")
    guidance_rescale: float = Field(
        default=0.0, ge=0, le=1, description="share of the guided spread that is pulled back"
    )
    thresholding: Literal["auto", "none", "static", "dynamic"] = Field(
        default="auto", description="of the predicted video, pixels alone; auto: as the backbone's scheduler says"
    )
    dynamic_quantile: float = Field(
        default=0.995, gt=0, le=1, description="of `dynamic`, one a video; auto takes the backbone's"
    )
    timestep_shift: float = Field(
        default=1.0, ge=1, le=3, description="s of logSNR' = logSNR - 2 log s; not with unipc"
    )

    @model_validator(mode="after")
    def _shifted_grid(self) -> Self:
        if self.timestep_shift != 1.0 and self.scheduler == "unipc":
            raise ValueError("timestep_shift: ddim, ddpm and dpm++ take a shifted grid, given unipc")
        return self


class SuperResolutionSettings(Config):
    """The second model, for `task=super_resolution` and `then_enlarge`; see `stunet.super_resolution.SsrConfig`."""

    backbone: str | None = Field(default=None, description="diffusers folder of an image upscaler; null: there is none")
    checkpoint: str | None = Field(
        default=None, description="its temporal weights, or their run; null: the un-trained inflation"
    )
    low_size_px: int | None = Field(
        default=None,
        ge=2,
        description="side to which super_resolution's video is brought first; null: what the upscaler was trained on, "
        "or size_px over its factor",
    )
    size_px: int | None = Field(
        default=None,
        ge=8,
        description="side of the enlarged video, even; null: what the upscaler was trained on, or low_size_px times "
        "its factor",
    )
    max_frames: int = Field(
        default=240, ge=1, description="of super_resolution's video, where `frames` is null; what is longer is cut"
    )
    window: int = Field(default=16, ge=1, description="frames that pass the upscaler together")
    overlap: int = Field(default=2, ge=0, description="frames that neighbouring windows share")
    windows_per_batch: int | None = Field(
        default=None, ge=1, description="windows of a video that pass the upscaler at once, for memory; null: all"
    )
    noise_level: int = Field(default=20, ge=0, description="timestep to which the low-resolution frames are noised")
    back_projections: int = Field(
        default=2, ge=0, description="rounds that bring the enlarged video, shrunk, back to the small one; 0: none"
    )
    steps: int = Field(default=20, ge=1, description="denoising steps")
    guidance_scale: float = Field(default=1.0, ge=1, description="of classifier-free guidance; 1: none")

    @model_validator(mode="after")
    def _overlap_is_shorter(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap: fewer frames than window = {self.window} expected, given {self.overlap}")
        return self


class GenerateConfig(Config):
    """Make videos from a checkpoint."""

    checkpoint: str | None = Field(
        default=None, description="folder of trained temporal weights, or of the run; null: the un-trained inflation"
    )
    backbone: str = Field(
        default="demo/weights/backbone", description="diffusers folder or hub name of the image model"
    )
    requests: str | None = Field(
        default=None,
        description="CSV or JSONL with `prompt` and, if you like, prompt_id, seed, and what follows but `prompt`",
    )
    task: TaskName = Field(default="text_to_video", description="of requests that name none")
    prompt: str | None = Field(default=None, description="one request, instead of a file of them")
    image: str | None = Field(default=None, description="of image_to_video and cinemagraph")
    video: str | None = Field(default=None, description="of inpainting, outpainting, stylisation, super_resolution")
    mask: str | None = Field(
        default=None,
        description="what is to be made or moves: white in an image or video, or a box x,y,w,h in the input's pixels; "
        "of outpainting: the box where the video lies on the canvas",
    )
    style: str | None = Field(
        default=None,
        description="folder or file of a fine-tuned U-Net, or of a LoRA; of all tasks but super_resolution",
    )
    alpha: float | None = Field(default=None, description="share of the style, 0 to 1; 0.7 where null")
    strength: float | None = Field(
        default=None, description="of stylisation: share of the steps, 0 to 1; 0.6 where null"
    )
    paste_known: bool = Field(
        default=True, description="put known pixels back over what the model made of them; the PSNR is told before"
    )
    then_enlarge: bool = Field(default=False, description="pass what other tasks made through `ssr`")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="of the model")
    out: str = Field(
        description="folder of the videos, shared by all workers: PROMPT_ID.mp4 and PROMPT_ID.json, or "
        "PROMPT_ID.error.json"
    )
    frames: int | None = Field(
        default=None,
        ge=1,
        description="length of a video; null: that of training, else 16; of super_resolution the video's own",
    )
    fps: float | None = Field(
        default=None,
        gt=0,
        description="frames per second; null: that of training, else 8; of super_resolution the video's own",
    )
    size_px: int | None = Field(
        default=None,
        ge=8,
        description="side of a video, even, a multiple of what the VAE shrinks by; null: that of training, else the "
        "U-Net's",
    )
    sampler: SamplerSettings = SamplerSettings()
    ssr: SuperResolutionSettings = SuperResolutionSettings()
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
    gpus_per_actor: int | None = Field(
        default=None, ge=0, le=1, description="1 generates on GPUs, 0 on CPUs; null: on GPUs where the cluster has any"
    )
    sheet_rows: int = Field(default=12, ge=1, description="videos on the tracker's contact sheet")
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.requests is None) == (self.prompt is None):
            given = "neither" if self.prompt is None else "both"
            raise ValueError(f"requests, prompt: one of them is expected, {given} given")
        return self

    @model_validator(mode="after")
    def _an_upscaler_where_one_is_needed(self) -> Self:
        if self.ssr.backbone is None and (self.then_enlarge or self.task == "super_resolution"):
            raise ValueError("ssr.backbone: an upscaler is expected for super-resolution, none is given")
        return self
