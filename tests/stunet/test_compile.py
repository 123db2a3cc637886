"""Compiled, in bf16, checkpointed: the same layers (property 9)."""

import pytest
import torch

from stunet.inflate import inflate, temporal_parameters
from stunet.temporal import TemporalAttention, TemporalConv, TemporalDownsample, TemporalUpsample


@pytest.mark.parametrize("layer", [TemporalConv, TemporalAttention, TemporalDownsample, TemporalUpsample])
def test_a_temporal_layer_compiles_without_a_graph_break_and_stays_the_same(layer, rng):
    plain, video = layer(8), torch.randn(2, 8, 4, 4, 4, generator=rng)
    torch.compiler.reset()
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")  # a graph break is an error
    torch.testing.assert_close(compiled(video), plain(video))


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_the_whole_works_in_bf16_as_well_as_the_image_unet_does(make_unet, conditions, rng, topology):
    unet = make_unet(topology).bfloat16()
    stunet = inflate(unet).bfloat16().eval()
    video = torch.randn(1, unet.config.in_channels, 8, 16, 16, generator=rng).bfloat16()
    text, timestep = torch.randn(1, 7, 24, generator=rng).bfloat16(), torch.tensor([300])
    others = {
        key: {name: value.bfloat16() for name, value in values.items()}
        for key, values in conditions(topology, 1).items()
    }
    with torch.no_grad():
        made = stunet(video, timestep, text, **others)
        expected = unet(video[:, :, 0], timestep, text, **others).sample
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made[:, :, 0].float(), expected.float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_activation_checkpointing_gives_the_same_gradients_also_after_training(make_unet, conditions, rng, topology):
    stunet = inflate(make_unet(topology)).train()
    with torch.no_grad():
        for name, value in temporal_parameters(stunet).items():
            if ".projection." in name:
                value.normal_(std=0.05, generator=rng)
    video = torch.randn(1, stunet.unet.config.in_channels, 8, 16, 16, generator=rng)
    text, timestep, gradients = torch.randn(1, 7, 24, generator=rng), torch.tensor([300]), []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            stunet.unet.enable_gradient_checkpointing()
        stunet.zero_grad()
        stunet(video, timestep, text, **conditions(topology, 1)).square().mean().backward()
        gradients.append({name: value.grad.clone() for name, value in temporal_parameters(stunet).items()})
    assert any(bool(value.any()) for value in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
