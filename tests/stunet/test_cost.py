"""What 80 frames cost, by torch's FLOP counter (property 10); no arithmetic is done: all tensors are shapes alone."""

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from stunet.inflate import InflationConfig, inflate

STABLE_DIFFUSION_1_5 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
DEEPFLOYD_IF_XL = {
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 6,
    "layers_per_block": 3,
    "block_out_channels": (704, 1408, 2112, 2816),
    "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    "cross_attention_dim": 2816,
    "cross_attention_norm": "group_norm",
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 64,
    "attention_head_dim": 64,
    "resnet_time_scale_shift": "scale_shift",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.41421,
    "mid_block_scale_factor": 1.41421,
    "time_embedding_act_fn": "gelu",
    "act_fn": "gelu",
}
DEEPFLOYD_IF_M = {
    **DEEPFLOYD_IF_XL,
    "block_out_channels": (192, 384, 576, 768),
    "cross_attention_dim": 768,
}


def flops(call) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("config", "side"),
    [
        pytest.param(STABLE_DIFFUSION_1_5, 32, id="SD 1.5"),
        pytest.param(SDXL, 64, id="SDXL", marks=pytest.mark.slow),
        pytest.param(DEEPFLOYD_IF_M, 64, id="IF M", marks=pytest.mark.slow),
        pytest.param(DEEPFLOYD_IF_XL, 64, id="IF XL"),
    ],
)
def test_80_frames_cost_less_than_frame_by_frame_and_much_less_than_without_temporal_resampling(config, side):
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config).eval()
        video, timestep = torch.empty(1, config.get("in_channels", 4), 80, side, side), torch.empty(1)
        text = torch.empty(1, 77, config.get("encoder_hid_dim", config["cross_attention_dim"]))
        pooled = {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}
        others = {"added_cond_kwargs": pooled} if config is SDXL else {}
        stunet, without = inflate(unet), inflate(unet, InflationConfig(temporal_factor=1))
        ours = flops(lambda: stunet(video, timestep, text, **others))
        frame = flops(lambda: unet(video[:, :, 0], timestep, text, **others))
        dense = flops(lambda: without(video, timestep, text, **others))
    assert ours < 0.8 * 80 * frame
    assert 1.6 * ours < dense
