"""The space-time U-Net against the image U-Net frame by frame, and against itself without temporal resampling.

`make bench-stunet`. Small random weights of Stable Diffusion's topology; FLOPs by torch's counter.
"""

import sys
from functools import partial
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from pairs import in_pairs

from stunet.inflate import InflationConfig, inflate

FRAMES = (16, 80)


def image_unet() -> UNet2DConditionModel:
    """The demo's topology, four levels at 32 x 32, with random weights."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def flops(call: partial[object]) -> int:
    """Floating-point operations of one call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@torch.no_grad()
def main() -> None:
    """Print ratios of time and of FLOPs for 16 and 80 frames."""
    torch.set_num_threads(1)
    unet = image_unet().eval()
    stunet = inflate(unet).eval()
    without = inflate(unet, InflationConfig(temporal_factor=1)).eval()
    for num_frames in FRAMES:
        video_BCTHW, timestep_B = torch.randn(1, 3, num_frames, 32, 32), torch.tensor([500])
        text_BLD = torch.randn(1, 24, 64)
        frames_NCHW = video_BCTHW[0].transpose(0, 1).contiguous()
        ours = partial(stunet, video_BCTHW, timestep_B, text_BLD)
        others = {
            "image U-Net frame by frame": partial(unet, frames_NCHW, 500, text_BLD.expand(num_frames, -1, -1)),
            "no temporal resampling": partial(without, video_BCTHW, timestep_B, text_BLD),
        }
        for name, other in others.items():
            print(in_pairs(f"STUNet / {name}, {num_frames} frames, time", ours, other, pairs=5))
            print(f"{f'STUNet / {name}, {num_frames} frames, FLOPs':<64} {flops(ours) / flops(other):.3f}", flush=True)


if __name__ == "__main__":
    main()
