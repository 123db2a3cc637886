"""Frozen weights in less precision than the temporal ones beside them, on whatever device the image U-Net is."""

import copy

import pytest
import torch

from stunet.inflate import InflationConfig, inflate, temporal_parameters
from stunet.inflated import Inflated
from stunet.temporal import TemporalAttention, TemporalConv, fold, unfold

CONDITIONED = InflationConfig(is_conditioned=True, attends_text=True)


def halved(value):
    """Tensors in bf16, wherever they sit in mappings."""
    if isinstance(value, dict):
        return {key: halved(one) for key, one in value.items()}
    return value.bfloat16()


def moved_projections(stunet, rng):
    with torch.no_grad():
        for name, value in temporal_parameters(stunet).items():
            if ".projection." in name or ".known." in name:
                value.copy_(torch.randn(value.shape, generator=rng) * 0.05)
    return stunet


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_frozen_bf16_with_temporal_fp32_learns_as_all_in_fp32_does(make_unet, conditions, rng, topology):
    unet = make_unet(topology)
    whole = moved_projections(inflate(copy.deepcopy(unet), CONDITIONED), rng)
    mixed = inflate(unet.bfloat16(), CONDITIONED)
    for name, value in temporal_parameters(mixed).items():
        assert value.dtype == torch.float32, "a small step is not lost in it"
        value.data.copy_(temporal_parameters(whole)[name])
    channels = 2 * unet.config["in_channels"] + 1
    video, text = torch.randn(2, channels, 8, 16, 16, generator=rng), torch.randn(2, 7, 24, generator=rng)
    timestep, others = torch.tensor([3, 900]), conditions(topology, 2)
    expected = whole(video, timestep, text, **others)
    made = mixed(halved(video), timestep, halved(text), **halved(others))
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, atol=0.15, rtol=0.1)
    expected.square().mean().backward()
    made.float().square().mean().backward()
    wanted = torch.cat([value.grad.flatten() for value in temporal_parameters(whole).values()])
    given = torch.cat([value.grad.flatten() for value in temporal_parameters(mixed).values()])
    assert given.dtype == torch.float32
    assert torch.cosine_similarity(given, wanted, dim=0) > 0.98
    assert all(value.grad is None for name, value in mixed.named_parameters() if not value.requires_grad)


def test_the_whole_in_bf16_stays_in_bf16(make_unet, rng):
    stunet = inflate(make_unet("sd"), CONDITIONED).bfloat16()
    assert {value.dtype for value in stunet.parameters()} == {torch.bfloat16}
    seen = []
    for module in stunet.modules():
        if isinstance(module, TemporalConv | TemporalAttention):
            module.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    video, text = torch.randn(1, 9, 8, 16, 16, generator=rng), torch.randn(1, 7, 24, generator=rng)
    with torch.no_grad():
        assert stunet(halved(video), torch.tensor([3]), halved(text)).dtype == torch.bfloat16
    assert set(seen) == {torch.bfloat16}


def test_in_fp32_no_bit_depends_on_the_casts(rng):
    layer = Inflated(torch.nn.Conv2d(8, 8, 3, padding=1), TemporalConv(8))
    torch.nn.init.normal_(layer.temporal.projection.weight, generator=rng)
    video = torch.randn(2, 8, 4, 4, 4, generator=rng)
    assert torch.equal(layer(video), layer.temporal(unfold(layer.spatial(fold(video)), 2)))


def test_new_layers_are_on_the_image_unets_device_with_the_same_weights_for_every_device(make_unet):
    """`meta` stands for a GPU: a tensor there and one on the CPU cannot meet either."""
    stunet = inflate(make_unet("sd").to("meta"), CONDITIONED)
    assert {value.device.type for value in stunet.parameters()} == {"meta"}
    with torch.device("meta"):
        video, timestep, text = torch.empty(1, 9, 8, 16, 16), torch.empty(1), torch.empty(1, 7, 24)
    made = stunet(video, timestep, text)
    assert made.shape == (1, 4, 8, 16, 16)


@pytest.mark.gpu
def test_a_unet_on_a_gpu_is_inflated_there_with_the_weights_of_the_cpu(make_unet, rng):
    unet = make_unet("sd")
    there, here = inflate(copy.deepcopy(unet).cuda().bfloat16(), CONDITIONED), inflate(unet, CONDITIONED)
    for name, value in temporal_parameters(there).items():
        assert value.is_cuda
        assert torch.equal(value.cpu(), temporal_parameters(here)[name])
    video, text = torch.randn(1, 9, 8, 16, 16, generator=rng), torch.randn(1, 7, 24, generator=rng)
    made = there(halved(video).cuda(), torch.tensor([3]).cuda(), halved(text).cuda())
    made.float().square().mean().backward()
    torch.testing.assert_close(made.float().cpu(), here(video, torch.tensor([3]), text), atol=0.15, rtol=0.1)
