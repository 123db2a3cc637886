"""Compiled, in bf16, checkpointed: the same layers (property 9)."""

import pytest
import torch

from stunet.inflate import inflate, temporal_parameters
from stunet.inflated import Inflated
from stunet.temporal import TemporalAttention, TemporalConv, TemporalDownsample, TemporalUpsample

TEXT_WIDTH = 6
LAYERS = {
    "convolution": lambda: TemporalConv(8),
    "attention": lambda: TemporalAttention(8),
    "attention to text": lambda: TemporalAttention(8, text_width=TEXT_WIDTH),
    "downsample": lambda: TemporalDownsample(8),
    "upsample": lambda: TemporalUpsample(8),
}


def given(layer, rng, wants_gradient=False):
    """A video, and the text where the layer looks at it."""
    video = torch.randn(2, 8, 4, 4, 4, generator=rng, requires_grad=wants_gradient)
    takes_text = isinstance(layer, TemporalAttention) and layer.takes_text
    return (video, torch.randn(2, 7, TEXT_WIDTH, generator=rng)) if takes_text else (video,)


def scrambled(layer, rng):
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=rng) * 0.2)
    return layer


def gradients(layer, called, inputs):
    layer.zero_grad()
    inputs[0].grad = None
    called(*inputs).square().mean().backward()
    return {"video": inputs[0].grad, **{name: value.grad for name, value in layer.named_parameters()}}


@pytest.mark.parametrize("name", LAYERS)
def test_a_temporal_layer_compiles_without_a_graph_break_and_stays_the_same(name, rng):
    plain = scrambled(LAYERS[name](), rng)
    inputs = given(plain, rng)
    torch.compiler.reset()
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")  # a graph break is an error
    torch.testing.assert_close(compiled(*inputs), plain(*inputs))


@pytest.mark.parametrize("name", LAYERS)
def test_a_compiled_temporal_layer_has_the_same_gradients(name, rng):
    plain = scrambled(LAYERS[name](), rng)
    inputs = given(plain, rng, wants_gradient=True)
    torch.compiler.reset()
    compiled = torch.compile(plain, fullgraph=True, backend="aot_eager")
    expected, made = gradients(plain, plain, inputs), gradients(plain, compiled, inputs)
    assert all(value.any() for value in expected.values())
    for key, gradient in expected.items():
        torch.testing.assert_close(made[key], gradient)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_image_layer_with_its_temporal_one_compiles_without_a_graph_break(precision, rng):
    spatial = torch.nn.Conv2d(8, 8, 3, padding=1).requires_grad_(False).to(precision)
    layer = Inflated(spatial, scrambled(TemporalConv(8), rng))
    video = torch.randn(2, 8, 4, 4, 4, generator=rng).to(precision)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    made, expected = compiled(video), layer(video)
    assert made.dtype == expected.dtype == precision
    torch.testing.assert_close(made, expected)
    compiled(video).float().square().mean().backward()
    assert all(value.grad is not None for value in layer.temporal.parameters())


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
