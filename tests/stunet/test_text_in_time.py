"""Temporal attention that looks at the text itself: the image U-Net at init, and then each video's own words."""

import copy

import pytest
import torch

from stunet.inflate import InflationConfig, inflate
from stunet.inflated import Inflated
from stunet.temporal import TemporalAttention

WITH_TEXT = InflationConfig(attends_text=True)


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_at_init_every_nth_frame_is_what_the_image_unet_makes_of_it(make_unet, conditions, rng, topology):
    unet = make_unet(topology)
    stunet = inflate(copy.deepcopy(unet), WITH_TEXT).eval()
    n, others = stunet.temporal_factor, conditions(topology, 2)
    video = torch.randn(2, unet.config.in_channels, 2 * n, 16, 16, generator=rng)
    timestep, text = torch.tensor([3, 900]), torch.randn(2, 7, 24, generator=rng)
    with torch.no_grad():
        prediction = stunet(video, timestep, text, **others)
        frames = [unet(video[:, :, t], timestep, text, **others).sample for t in range(0, 2 * n, n)]
    torch.testing.assert_close(prediction[:, :, ::n], torch.stack(frames, dim=2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("topology", "places"),
    [
        ("sd", ["mid_block.attentions.0"]),
        ("sdxl", ["down_blocks.2.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.0"]),
        ("if", ["down_blocks.2.attentions.0", "mid_block.attentions.0", "up_blocks.0.attentions.0"]),
    ],
)
def test_it_is_where_image_layers_of_the_coarsest_level_are_given_the_text(make_unet, topology, places):
    stunet = inflate(make_unet(topology), WITH_TEXT)
    found = [
        name
        for name, module in stunet.unet.named_modules()
        if isinstance(module, Inflated)
        and isinstance(module.temporal, TemporalAttention)
        and module.temporal.takes_text
    ]
    assert sorted(name for name in found if not name.endswith(".1")) == places


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_the_text_reaches_the_layer_and_gets_gradients(make_unet, conditions, rng, topology):
    stunet = inflate(make_unet(topology), WITH_TEXT)
    layers = {name: value for name, value in stunet.named_parameters() if ".text." in name}
    with torch.no_grad():
        for name, value in stunet.named_parameters():
            if ".temporal.projection." in name:
                value.normal_(std=0.05, generator=rng)
    video = torch.randn(2, stunet.unet.config["in_channels"], 8, 16, 16, generator=rng)
    text = torch.randn(2, 7, 24, generator=rng)
    stunet(video, torch.tensor([3, 900]), text, **conditions(topology, 2)).square().mean().backward()
    assert layers
    assert [name for name, value in layers.items() if value.grad is None or not value.grad.any()] == []


def test_a_video_hears_its_own_text_and_no_other(rng):
    layer = TemporalAttention(16, text_width=6).eval()
    torch.nn.init.normal_(layer.projection.weight, generator=rng)
    video, text = torch.randn(2, 16, 4, 3, 5, generator=rng), torch.randn(2, 7, 6, generator=rng)
    other = torch.cat([text[:1], torch.randn(1, 7, 6, generator=rng)])
    with torch.no_grad():
        both, alone, changed = layer(video, text), layer(video[:1], text[:1]), layer(video, other)
    torch.testing.assert_close(both[:1], alone)
    torch.testing.assert_close(changed[0], both[0])
    assert (changed[1] - both[1]).abs().max() > 1e-3


def test_without_it_the_layers_are_those_of_before(make_unet):
    plain, with_text = (dict(inflate(make_unet("sd"), config).named_parameters()) for config in (None, WITH_TEXT))
    assert {name for name in with_text if name not in plain} == {name for name in with_text if ".text." in name}
