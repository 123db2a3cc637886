"""What tests share: one local Ray a session, a tracker in a folder of its own, and a small SDXL."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cluster import RayConfig, ray_cluster
from pipelines.tracking import TrackingConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs the tests, for jobs started as a user would."""
    return sys.executable


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A real Ray of this session's own, with two CPUs; stopped at the end."""
    with ray_cluster(RayConfig(num_cpus=2, object_store_bytes=128 * 1024**2), environment={}):
        yield


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingConfig:
    """A real MLflow store on SQLite in the test's own folder."""
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "mlflow-artifacts"))


def write_clip_tokenizer(folder: Path, pad: str) -> None:
    """A real CLIP tokenizer of letters and two merges, in the files that the hub's models have."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789!"
    merged = ["re", "red</w>"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    special = {"bos_token": words[-2], "eos_token": words[-1], "unk_token": words[-1], "pad_token": pad}
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 12, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps({**kind, **special}))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random SDXL as diffusers writes it: copy it before changing it."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder, words = tmp_path_factory.mktemp("sdxl") / "small-sdxl", tmp_path_factory.mktemp("words")
    text: dict[str, Any] = {"vocab_size": 78, "max_position_embeddings": 12, "bos_token_id": 76, "eos_token_id": 77}
    text |= {"num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32, "pad_token_id": 77}
    tokenizers: dict[str, Any] = {}
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        write_clip_tokenizer(words / name, pad)
        tokenizers[name] = CLIPTokenizer.from_pretrained(words / name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            cross_attention_dim=16 + 8,
            attention_head_dim=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 20,
            norm_num_groups=4,
        )
        pipeline = StableDiffusionXLPipeline(
            unet=unet,
            vae=AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
                latent_channels=4,
                scaling_factor=0.13025,
            ),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            text_encoder=CLIPTextModel(CLIPTextConfig(hidden_size=16, **text)),
            text_encoder_2=CLIPTextModelWithProjection(
                CLIPTextConfig(hidden_size=8, projection_dim=20, hidden_act="gelu", **text)
            ),
            **tokenizers,
        )
    pipeline.save_pretrained(folder)
    for name in tokenizers:  # the hub's SDXL has CLIP's own files, not tokenizer.json
        shutil.rmtree(folder / name)
        shutil.copytree(words / name, folder / name)
    return folder
