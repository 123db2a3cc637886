"""The inflated U-Net is the image U-Net at init, and only its temporal layers train (properties 1, 3 and 4)."""

import copy

import pytest
import torch
from torch import nn

from stunet.backbone import load_backbone
from stunet.inflate import (
    InflationConfig,
    InflationError,
    image_state_dict,
    inflate,
    temporal_parameters,
)
from stunet.inflated import Inflated
from stunet.temporal import TemporalAttention, TemporalConv, TemporalDownsample, TemporalUpsample

TOPOLOGIES = ["sd", "sdxl", "if"]


def draw_inputs(unet, rng, batch, num_frames, side=16):
    video = torch.randn(batch, unet.config.in_channels, num_frames, side, side, generator=rng)
    timestep = torch.randint(0, 1000, (batch,), generator=rng)
    return video, timestep, torch.randn(batch, 7, 24, generator=rng)


@torch.no_grad()
def frame_by_frame(unet, video, timestep, text, **conditions):
    frames = [unet(video[:, :, t], timestep, text, **conditions).sample for t in range(video.shape[2])]
    return torch.stack(frames, dim=2)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("batch", "num_frames"), [(1, 16), (3, 8), (2, 1), (2, 5)])
def test_at_init_every_nth_frame_is_what_the_image_unet_makes_of_it(
    make_unet, conditions, rng, topology, batch, num_frames
):
    unet = make_unet(topology)
    stunet = inflate(copy.deepcopy(unet)).eval()
    video, timestep, text = draw_inputs(unet, rng, batch, num_frames)
    others = conditions(topology, batch)
    with torch.no_grad():
        prediction = stunet(video, timestep, text, **others)
    n = stunet.temporal_factor
    assert n == 2 ** (len(unet.config.block_out_channels) - 1)
    expected = frame_by_frame(unet, video[:, :, ::n], timestep, text, **others)
    assert prediction.shape == (batch, unet.config.out_channels, *video.shape[2:])
    torch.testing.assert_close(prediction[:, :, ::n], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("num_frames", [1, 6, 16])
def test_at_init_a_static_video_is_the_image_unets_on_all_frames(make_unet, conditions, rng, topology, num_frames):
    unet = make_unet(topology)
    stunet = inflate(copy.deepcopy(unet)).eval()
    video, timestep, text = draw_inputs(unet, rng, 2, 1)
    others = conditions(topology, 2)
    with torch.no_grad():
        prediction = stunet(video.expand(-1, -1, num_frames, -1, -1), timestep, text, **others)
    expected = frame_by_frame(unet, video, timestep, text, **others).expand_as(prediction)
    torch.testing.assert_close(prediction, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("topology", ["sd", "sdxl"])  # diffusers' IF blocks themselves need sides that halve evenly
def test_sides_that_do_not_halve_evenly_work_as_in_the_image_unet(make_unet, conditions, rng, topology):
    unet = make_unet(topology)
    stunet = inflate(copy.deepcopy(unet)).eval()
    video, timestep, text = draw_inputs(unet, rng, 1, stunet.temporal_factor, side=18)
    others = conditions(topology, 1)
    with torch.no_grad():
        prediction = stunet(video, timestep, text, **others)
    expected = frame_by_frame(unet, video[:, :, :1], timestep, text, **others)
    torch.testing.assert_close(prediction[:, :, :1], expected, atol=1e-5, rtol=0)


def test_the_demos_trained_unet_is_inflated_exactly(root, rng):
    unet = load_backbone(root / "demo" / "weights" / "backbone").unet
    stunet = inflate(copy.deepcopy(unet)).eval()
    video, timestep = torch.randn(1, 3, 16, 32, 32, generator=rng), torch.tensor([400])
    text = torch.randn(1, 9, unet.config["cross_attention_dim"], generator=rng)
    with torch.no_grad():
        moving, still = stunet(video, timestep, text), stunet(video[:, :, :1].expand_as(video), timestep, text)
    expected = frame_by_frame(unet, video[:, :, ::8], timestep, text)
    torch.testing.assert_close(moving[:, :, ::8], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(still, expected[:, :, :1].expand_as(still), atol=1e-5, rtol=0)


def test_the_image_unet_stays_usable_and_shares_its_weights(make_unet, rng):
    unet = make_unet("sd")
    video, timestep, text = draw_inputs(unet, rng, 1, 1)
    before = frame_by_frame(unet, video, timestep, text)
    stunet = inflate(unet)
    torch.testing.assert_close(frame_by_frame(unet, video, timestep, text), before, atol=1e-5, rtol=0)
    pointers = {value.data_ptr() for value in unet.parameters()}
    assert {value.data_ptr() for value in image_state_dict(stunet).values()} == pointers


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_image_state_dict_comes_back_bit_exact_after_a_step_of_training(make_unet, conditions, rng, topology):
    unet = make_unet(topology)
    before = copy.deepcopy(unet.state_dict())
    stunet = inflate(unet)
    parameters = temporal_parameters(stunet)
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, weight_decay=0.1)
    video, timestep, text = draw_inputs(unet, rng, 1, 8)
    for _ in range(2):
        optimizer.zero_grad()
        stunet(video, timestep, text, **conditions(topology, 1)).square().mean().backward()
        optimizer.step()
    after = image_state_dict(stunet)
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_only_temporal_parameters_require_a_gradient_and_each_gets_one(make_unet, rng):
    unet = make_unet("sd")
    stunet = inflate(unet)
    names = temporal_parameters(stunet)
    assert {name for name, value in stunet.named_parameters() if value.requires_grad} == set(names)
    # Behind a projection of zeros the first gradient is zero: look after the projections have moved.
    with torch.no_grad():
        for name, value in names.items():
            if ".projection." in name:
                value.normal_(std=0.05, generator=rng)
    video, timestep, text = draw_inputs(unet, rng, 1, 16)
    stunet(video, timestep, text).square().mean().backward()
    assert all(value.grad is None for name, value in stunet.named_parameters() if name not in names)
    assert [name for name, value in names.items() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_attention_is_at_the_coarsest_level_only_and_resizers_exactly_at_the_spatial_ones(make_unet, topology):
    stunet = inflate(make_unet(topology))
    unet = stunet.unet
    coarsest = (f"down_blocks.{len(unet.down_blocks) - 1}.", "mid_block.", "up_blocks.0.")
    kinds = {}
    for name, module in unet.named_modules():
        if isinstance(module, Inflated) and module.temporal is not None:
            kinds[name] = type(module.temporal)
    layers = {name: kind for name, kind in kinds.items() if "samplers" not in name}
    assert {kind for name, kind in layers.items() if name.startswith(coarsest)} == {TemporalAttention}
    assert {kind for name, kind in layers.items() if not name.startswith(coarsest)} == {TemporalConv}
    blocks = {".".join(name.split(".")[: 1 if name.startswith("mid") else 2]) for name in layers}
    assert blocks == {
        name
        for name, _ in unet.named_modules()
        if name == "mid_block" or name.split(".")[:-1] in (["down_blocks"], ["up_blocks"])
    }
    assert {name for name, kind in kinds.items() if kind is TemporalDownsample} == resizers(unet, "downsamplers")
    assert {name for name, kind in kinds.items() if kind is TemporalUpsample} == resizers(unet, "upsamplers")


def resizers(unet: nn.Module, kind: str) -> set[str]:
    return {name for name, _ in unet.named_modules() if name.endswith(f"{kind}.0")}


def test_a_smaller_temporal_factor_leaves_the_inner_resizers_spatial(make_unet, rng):
    unet = make_unet("sd")
    stunet = inflate(unet, InflationConfig(temporal_factor=2))
    assert stunet.temporal_factor == 2
    kinds = [type(module) for module in stunet.modules()]
    assert (kinds.count(TemporalDownsample), kinds.count(TemporalUpsample)) == (1, 1)
    video, timestep, text = draw_inputs(unet, rng, 1, 6)
    with torch.no_grad():
        prediction = stunet(video, timestep, text)
    torch.testing.assert_close(
        prediction[:, :, ::2], frame_by_frame(unet, video[:, :, ::2], timestep, text), atol=1e-5, rtol=0
    )


def test_two_inflations_of_one_seed_are_equal_and_leave_the_global_rng_alone(make_unet):
    unet = make_unet("sdxl")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = temporal_parameters(inflate(unet)), temporal_parameters(inflate(unet))
    other = temporal_parameters(inflate(unet, InflationConfig(seed=1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_activation_checkpointing_gives_the_same_gradients(make_unet, rng):
    stunet = inflate(make_unet("sd")).train()
    video, timestep, text = draw_inputs(stunet.unet, rng, 1, 8)
    gradients = []
    for is_checkpointed in (False, True):
        if is_checkpointed:
            stunet.unet.enable_gradient_checkpointing()
        stunet.zero_grad()
        stunet(video, timestep, text).square().mean().backward()
        gradients.append({name: value.grad for name, value in temporal_parameters(stunet).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_unet_with_an_unknown_block_is_refused_by_the_blocks_name(make_unet):
    unet = make_unet("sd")
    unet.up_blocks[1] = nn.Identity()
    with pytest.raises(InflationError, match=r"up_blocks\.1: a Identity cannot be inflated"):
        inflate(unet)
    with pytest.raises(InflationError, match="UNet2DConditionModel is expected, given Conv2d"):
        inflate(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="temporal_factor: a power of two expected, given 6"):
        InflationConfig(temporal_factor=6)
