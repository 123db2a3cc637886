"""Small random image U-Nets of the three topologies, and a small backbone folder with a real open_clip text tower."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

SD = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (16, 32, 32, 48),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}
SDXL = {
    "sample_size": 16,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "cross_attention_dim": 24,
    "attention_head_dim": (1, 2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 20,
    "norm_num_groups": 8,
}
IF = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "cross_attention_dim": 24,
    "encoder_hid_dim": 24,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.4142,
    "class_embed_type": None,
    "act_fn": "gelu",
}
TOPOLOGIES = {"sd": SD, "sdxl": SDXL, "if": IF}


@pytest.fixture(scope="session")
def make_unet() -> Callable[..., UNet2DConditionModel]:
    """`make_unet("sd", seed=0, **changes)`: a random image U-Net of a topology."""

    def make(topology: str, seed: int = 0, **changes: Any) -> UNet2DConditionModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            unet = UNet2DConditionModel.from_config(TOPOLOGIES[topology] | changes)
            assert isinstance(unet, UNet2DConditionModel)
            return unet.eval()

    return make


@pytest.fixture(scope="session")
def conditions() -> Callable[[str, int], dict[str, Any]]:
    """What a topology wants beside the text, for B videos."""

    def make(topology: str, batch: int) -> dict[str, Any]:
        if topology != "sdxl":
            return {}
        draw = torch.Generator().manual_seed(5)
        texts, times = torch.randn(batch, 20, generator=draw), torch.rand(batch, 6, generator=draw) * 100
        return {"added_cond_kwargs": {"text_embeds": texts, "time_ids": times}}

    return make


@pytest.fixture
def rng() -> torch.Generator:
    """Chance with a fixed seed."""
    return torch.Generator().manual_seed(1234)
