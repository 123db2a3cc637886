"""Configuration of `jobs/train.py`. Imports nothing heavy: a mistake is told within two seconds."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.cluster import RayConfig
from pipelines.config import Config
from pipelines.tracking import TrackingConfig


class RunConfig(Config):
    """What the run is called, where it lies, and what happens when it is there already."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="stable: the same name goes on with the run")
    storage: str = Field(description="folder of runs, shared by all workers; checkpoints go to <storage>/<name>")
    resume: Literal["auto", "force", "never"] = Field(
        default="auto",
        description="a run that is there already: auto goes on if what decides its losses is unchanged, force goes on "
        "whatever changed, never refuses",
    )


class InflationSettings(Config):
    """Temporal layers that are added to the image U-Net (section 3.1); see `stunet.inflate.InflationConfig`."""

    temporal_factor: int = Field(
        default=8, ge=1, description="N, a power of two: clips are N times shorter at the coarsest"
    )
    attention_layers: int = Field(default=2, ge=1, description="temporal attentions stacked at the coarsest level")
    attention_head_width: int = Field(default=64, ge=2, description="channels of an attention head at most")
    attention_expansion: int = Field(
        default=2, ge=0, description="hidden channels of the linear layers behind each attention, in channels; 0: none"
    )
    conv_frames: int = Field(default=3, ge=1, description="width of temporal convolutions in frames, odd")
    conv_pixels: int = Field(default=3, ge=0, description="width of the Conv2D before them, odd; 0 leaves it out")
    seed: int = Field(default=0, ge=0, description="of the random weights under the zero projections")
    is_conditioned: bool = Field(
        default=False, description="widen the first convolution for C and M: needed by all tasks but text_to_video"
    )
    attends_text: bool = Field(
        default=False, description="temporal attentions look at the text themselves; not in the paper"
    )

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        if self.temporal_factor & (self.temporal_factor - 1):
            raise ValueError(f"temporal_factor: a power of two is expected, given {self.temporal_factor}")
        for name, width in (("conv_frames", self.conv_frames), ("conv_pixels", self.conv_pixels)):
            if width and width % 2 == 0:
                raise ValueError(f"{name}: an odd number is expected, given {width}")
        return self


class ObjectiveSettings(Config):
    """The loss; see `stunet.objective.ObjectiveConfig`."""

    timestep_shift: float = Field(
        default=1.0, ge=1, le=3, description="s of logSNR' = logSNR - 2 log s: videos need more noise"
    )
    min_snr_gamma: float | None = Field(default=5.0, gt=0, description="gamma of min-SNR weighting; null: weight 1")
    text_dropout: float = Field(default=0.1, ge=0, le=1, description="share of samples trained without their text")


class TaskSettings(Config):
    """Tasks that samples are drawn for, by relative shares (section 4); see `stunet.tasks.TaskConfig`."""

    text_to_video: float = Field(default=1.0, ge=0, description="nothing is known but the text")
    image_to_video: float = Field(default=0.0, ge=0, description="the first frame is known")
    inpainting: float = Field(default=0.0, ge=0, description="all but a box is known; object replacement too")
    outpainting: float = Field(default=0.0, ge=0, description="a box is known")
    cinemagraph: float = Field(default=0.0, ge=0, description="what does not move is known")
    dropout: float = Field(default=0.1, ge=0, le=1, description="share of samples whose C and M are taken away")

    @model_validator(mode="after")
    def _some_task(self) -> Self:
        if not self.text_to_video + self.conditioned_share:
            raise ValueError("at least one share above 0 is expected, all are 0")
        return self

    @property
    def conditioned_share(self) -> float:
        """Of the tasks that need C and M."""
        return self.image_to_video + self.inpainting + self.outpainting + self.cinemagraph


class UpscalingSettings(Config):
    """Super-resolution (section 3.2), learned on windows of clips; the backbone is an upscaler."""

    low_size_px: int | None = Field(
        default=None, ge=8, description="frames scaled down to this stand beside the noisy ones; null: none do"
    )
    window: int = Field(default=16, ge=1, description="frames of a clip that pass the model together")
    noise_levels: int = Field(
        default=250, ge=1, description="the low-resolution frames are noised to a timestep below this"
    )


class ValidationConfig(Config):
    """Videos that are sampled on the way, and held-out loss; both of the averaged weights, in the tracker."""

    every_steps: int = Field(default=500, ge=0, description="0: never; otherwise after the last step too")
    prompts: tuple[str, ...] = Field(
        default=(), description="one video each; empty: captions of the data set's first clips"
    )
    num_clips: int = Field(
        default=4, ge=1, le=16, description="captions taken from the data set where no prompts are given"
    )
    held_out_clips: int = Field(
        default=0, ge=0, description="clips kept out of training; their loss is told at nine fixed timesteps"
    )
    sampler_steps: int = Field(default=20, ge=1, description="denoising steps")
    guidance_scale: float = Field(default=4.0, ge=1, description="of classifier-free guidance; 1: none")
    seed: int = Field(default=0, ge=0, description="noise of the first video; the next ones count on")


class TrainConfig(Config):
    """Train the temporal layers of an inflated image U-Net on a curated data set."""

    run: RunConfig
    dataset: str = Field(description="root of a data set that jobs/refresh.py made")
    dataset_version: int | None = Field(
        default=None, ge=0, description="version of its catalog; null: newest, then pinned"
    )
    backbone: str = Field(
        default="demo/weights/backbone", description="diffusers folder or hub name of the image model"
    )
    initial_weights: str | None = Field(
        default=None,
        description="temporal weights, or the folder of the run that made them, to start from; null: the identity",
    )
    inflation: InflationSettings = InflationSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    tasks: TaskSettings = TaskSettings()
    upscaling: UpscalingSettings = UpscalingSettings()

    steps: int = Field(ge=1, description="optimizer steps of the whole run; may grow when the run goes on")
    clips_per_step: int = Field(default=8, ge=1, description="global batch, the same whatever the workers")
    clips_per_micro_batch: int = Field(default=4, ge=1, description="clips that pass the model at once on one worker")
    lr: float = Field(default=1e-4, gt=0, description="learning rate after warm-up")
    warmup_steps: int = Field(default=100, ge=0, description="steps over which the rate grows linearly from 0")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    gradient_clipping: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="of the averaged weights, reached gradually")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the forward pass; master weights are fp32"
    )
    seed: int = Field(default=0, ge=0, description="of the order of samples, noise, timesteps and dropout")
    max_skipped_steps: int = Field(
        default=5, ge=1, description="abort after so many steps in a row with non-finite gradients"
    )

    workers: int = Field(default=1, ge=1, description="training processes")
    cpus_per_worker: int = Field(
        default=1, ge=1, description="CPUs that Ray reserves for each, and threads that torch uses"
    )
    gpus_per_worker: int = Field(default=0, ge=0, le=1, description="1 trains on GPUs")
    zero_stage: int = Field(
        default=2, ge=0, le=3, description="DeepSpeed ZeRO; 3 only where the frozen weights do not fit"
    )
    max_failures: int = Field(
        default=3, ge=-1, description="restarts of dead workers before the job fails; -1: no limit"
    )
    activation_checkpointing: bool = Field(
        default=False, description="compute activations anew in backward: less memory, about one more forward pass"
    )
    compile: bool = Field(
        default=False,
        description="torch.compile of the model, in the first step, for minutes; a CPU gains nothing",
    )
    loader_threads: int = Field(default=2, ge=1, description="threads a worker that read and decode clips")
    prefetch_micro_batches: int = Field(default=4, ge=1, description="micro batches read ahead")

    checkpoint_every_steps: int = Field(default=500, ge=1, description="also after the last step and when stopped")
    keep_checkpoints: int = Field(default=3, ge=1, description="older ones are removed")
    validation: ValidationConfig = ValidationConfig()
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        at_once = self.clips_per_micro_batch * self.workers
        if self.clips_per_step % at_once:
            raise ValueError(
                f"clips_per_step: {self.clips_per_step} is no multiple of clips_per_micro_batch x workers = "
                f"{self.clips_per_micro_batch} x {self.workers} = {at_once}"
            )
        return self

    @model_validator(mode="after")
    def _stage_suits_precision(self) -> Self:
        if self.zero_stage == 0 and self.precision == "bf16":
            raise ValueError("zero_stage: 1 to 3 is expected with precision=bf16, given 0: it has no fp32 weights")
        return self

    @model_validator(mode="after")
    def _tasks_suit_the_model(self) -> Self:
        if self.tasks.conditioned_share and not self.inflation.is_conditioned:
            raise ValueError("tasks: shares besides text_to_video need inflation.is_conditioned=true, it is false")
        if self.upscaling.low_size_px is not None and self.inflation.is_conditioned:
            raise ValueError("upscaling.low_size_px: null is expected with inflation.is_conditioned=true")
        return self

    @property
    def micro_batches_per_step(self) -> int:
        """Micro batches that each worker accumulates: clips_per_step / (clips_per_micro_batch x workers)."""
        return self.clips_per_step // (self.clips_per_micro_batch * self.workers)

    @property
    def identity(self) -> dict[str, object]:
        """What decides the losses: a run goes on under its name only while this is unchanged.

        Places, number of steps, and how the work is spread over workers are left out.
        """
        return self.model_dump(mode="json", include=_IDENTITY)

    @property
    def identity_hash(self) -> str:
        """First 16 hex digits of the sha256 over `identity`."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]


_IDENTITY: dict[str, Any] = {
    "initial_weights": True,
    "inflation": True,
    "objective": True,
    "tasks": True,
    "upscaling": True,
    "validation": {"held_out_clips"},
    "clips_per_step": True,
    "lr": True,
    "warmup_steps": True,
    "weight_decay": True,
    "gradient_clipping": True,
    "ema_decay": True,
    "precision": True,
    "seed": True,
}
