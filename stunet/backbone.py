"""A pre-trained text-to-image model from a diffusers folder or a hub name: U-Net, noise schedule, VAE, text encoder."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.text import TextEncoder, load_text_encoder

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_SCHEDULER = "scheduler/scheduler_config.json"
_SCHEDULE_KEYS = (
    "prediction_type",
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "rescale_betas_zero_snr",
)
_TWO_TEXTS = "text_time"
_CACHED = "models--"
"""How the hub's cache begins the name of a repository's folder."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
NEEDED_FILES = (
    "*.json",
    "*.txt",
    "*.model",
    "unet/*.safetensors",
    "vae/*.safetensors",
    "text_encoder/*.safetensors",
    "text_encoder_2/*.safetensors",
)
"""What is fetched of a hub's repository; `*` also stands for folders."""


class BackboneError(ValueError):
    """A backbone that cannot be loaded; the message names the folder and what is missing."""


@dataclass(frozen=True)
class Backbone:
    """A text-to-image model, taken apart.

    Attributes:
        unet: The image U-Net, in fp32.
        scheduler: Its noise schedule and prediction type, as diffusers' DDPM scheduler: what training needs.
        vae: None where the U-Net works on pixels.
        text_encoder: Frozen.
        name: For people, see `backbone_name`.
        digest: sha256 over the U-Net's weight files, 64 hex digits.
    """

    unet: UNet2DConditionModel
    scheduler: DDPMScheduler
    vae: AutoencoderKL | None
    text_encoder: TextEncoder
    name: str
    digest: str

    @property
    def schedule(self) -> dict[str, Any]:
        """What temporal weights were trained with besides the U-Net, as `backbone_schedule` gives it."""
        return _facts(self.scheduler)


def load_backbone(path: str | Path) -> Backbone:
    """Load a diffusers folder; weights are safetensors only.

    Args:
        path: A folder with `unet/`, `scheduler/`, `text_encoder/` and, for latent space, `vae/`, for SDXL
            `text_encoder_2/`; or a hub name.

    Raises:
        BackboneError: A file that is needed is missing, the schedule is not one of diffusion, or the U-Net takes
            another number of text encoders than there are.
        TextError: The text encoder cannot be loaded.
    """
    folder = find_backbone(path)
    for file in ("unet/config.json", _SCHEDULER):
        if not (folder / file).is_file():
            raise BackboneError(f"{path}: a diffusers folder is expected, {file} is missing")
    _check_text(folder)
    digest = weights_digest(folder)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", use_safetensors=True, low_cpu_mem_usage=False)
    vae = None
    if (folder / "vae").is_dir():
        vae = AutoencoderKL.from_pretrained(folder / "vae", use_safetensors=True, low_cpu_mem_usage=False)
        vae.requires_grad_(False).eval()
    return Backbone(unet.eval(), _schedule(folder), vae, load_text_encoder(folder), backbone_name(path), digest)


def find_backbone(path: str | Path, fetch: Callable[[str], str] | None = None) -> Path:
    """The folder of a backbone: the given one, or, where there is none, a copy of the repository of that name.

    Args:
        path: A folder, or a hub name such as `organisation/model`.
        fetch: From a hub name to a local folder; None for the hub's own cache.

    Raises:
        BackboneError: Neither a folder nor the name of a repository that can be had.
    """
    if Path(path).is_dir():
        return Path(path).resolve()
    if not _HUB_NAME.fullmatch(str(path)):
        raise BackboneError(f"{path}: a diffusers folder or a hub name is expected, there is no such folder")
    try:
        return Path((fetch or _from_hub)(str(path))).resolve()
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path}: no such folder, and the hub has it not for us: {error}") from error


def _from_hub(name: str) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(name, allow_patterns=list(NEEDED_FILES))


def backbone_name(path: str | Path) -> str:
    """What people call a backbone: a hub name, also for the copy of it in the hub's cache, or a folder's own name.

    Args:
        path: What was given to `find_backbone`, or what that gave.
    """
    if not Path(path).is_dir():
        return str(path)
    folder = Path(path).resolve()
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith(_CACHED):  # models--organisation--model
        return repository.removeprefix(_CACHED).replace("--", "/")
    return folder.name


def backbone_schedule(path: str | Path) -> dict[str, Any]:
    """Noise schedule and prediction type of a diffusers folder, without loading its weights.

    Returns:
        The keys of diffusers' schedulers: `prediction_type`, `num_train_timesteps`, `beta_schedule`, `beta_start` and
        `beta_end` (but of a cosine schedule, which has no use for them), and `rescale_betas_zero_snr`.

    Raises:
        BackboneError: There is none, or not one of diffusion.
    """
    if not (Path(path) / _SCHEDULER).is_file():
        raise BackboneError(f"{path}: a diffusers folder is expected, {_SCHEDULER} is missing")
    return _facts(_schedule(Path(path)))


def _facts(scheduler: DDPMScheduler) -> dict[str, Any]:
    config = scheduler.config
    unused = ("beta_start", "beta_end") if config["beta_schedule"] == "squaredcos_cap_v2" else ()
    return {key: config[key] for key in _SCHEDULE_KEYS if key not in unused}


def _check_text(folder: Path) -> None:
    """SDXL's U-Nets, and only they, take what two text encoders make."""
    kind = json.loads((folder / "unet" / "config.json").read_text()).get("addition_embed_type")
    is_there = (folder / "text_encoder_2").is_dir()
    if is_there != (kind == _TWO_TEXTS):
        raise BackboneError(
            f"{folder}: text_encoder_2 is expected with a U-Net whose addition_embed_type is {_TWO_TEXTS} and with no "
            f"other; given {kind!r}, and text_encoder_2 is {'there' if is_there else 'missing'}"
        )


def _schedule(folder: Path) -> Any:
    config = json.loads((folder / _SCHEDULER).read_text())
    if "beta_schedule" not in config:
        kind = config.get("_class_name")
        raise BackboneError(f"{folder}: scheduler: a diffusion schedule with `beta_schedule` expected, given {kind}")
    return DDPMScheduler.from_config(config)


def weights_digest(path: str | Path) -> str:
    """`Backbone.digest` of a diffusers folder, without loading it.

    Raises:
        BackboneError: No safetensors weights of a U-Net in it.
    """
    folder = Path(path) / "unet"
    index = folder / f"{_WEIGHTS}.index.json"
    if (folder / _WEIGHTS).is_file():
        files = [_WEIGHTS]
    elif index.is_file():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    else:
        raise BackboneError(f"{path}: a diffusers folder is expected, unet/{_WEIGHTS} is missing")
    whole = hashlib.sha256()
    for file in files:
        with (folder / file).open("rb") as data:
            whole.update(hashlib.file_digest(data, "sha256").digest())
    return whole.hexdigest()
