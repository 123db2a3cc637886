"""The temporal layers alone (properties 2, 4 and 9)."""

import pytest
import torch

from stunet.temporal import TemporalAttention, TemporalConv, TemporalDownsample, TemporalUpsample


def randomise(layer, rng):
    with torch.no_grad():
        for value in layer.parameters():
            value.copy_(torch.randn(value.shape, generator=rng) * 0.2)
    return layer


@pytest.mark.parametrize("layer", [TemporalConv(12), TemporalConv(12, pixels=0), TemporalAttention(12)])
def test_a_fresh_layer_passes_its_input_unchanged(layer, rng):
    video = torch.randn(2, 12, 5, 4, 6, generator=rng)
    assert torch.equal(layer(video), video)


def test_a_constant_video_passes_the_resizers_unchanged_borders_included(rng):
    video = torch.randn(2, 12, 1, 4, 6, generator=rng).expand(-1, -1, 8, -1, -1)
    assert torch.equal(TemporalDownsample(12)(video), video[:, :, :4])
    assert torch.equal(TemporalUpsample(12)(video[:, :, :4]), video)


def test_fresh_resizers_take_every_second_frame_and_duplicate(rng):
    video = torch.randn(2, 12, 8, 4, 6, generator=rng)
    down = TemporalDownsample(12)(video)
    assert torch.equal(down, video[:, :, ::2])
    assert torch.equal(TemporalUpsample(12)(down), down.repeat_interleave(2, dim=2))


def test_a_trained_resizer_or_convolution_keeps_a_constant_video_constant(rng):
    video = torch.randn(1, 12, 1, 4, 6, generator=rng).expand(-1, -1, 8, -1, -1)
    for layer in (TemporalConv(12), TemporalDownsample(12), TemporalUpsample(12)):
        out = randomise(layer, rng)(video)
        torch.testing.assert_close(out, out[:, :, :1].expand_as(out))


def test_the_downsampler_is_a_conv1d_over_time_of_each_pixel(rng):
    layer = randomise(TemporalDownsample(6), rng)
    video = torch.randn(2, 6, 8, 3, 5, generator=rng)
    pixels = video.permute(0, 3, 4, 1, 2).reshape(-1, 6, 8)
    padded = torch.nn.functional.pad(pixels, (1, 1), mode="replicate")
    conv = layer.conv_time.conv
    expected = torch.nn.functional.conv1d(padded, conv.weight[..., 0], conv.bias, stride=2)
    torch.testing.assert_close(layer(video), expected.view(2, 3, 5, 6, 4).permute(0, 3, 4, 1, 2))


def test_attention_is_sensitive_to_order_and_mixes_frames_of_one_pixel_only(rng):
    layer = randomise(TemporalAttention(12), rng)
    video = torch.randn(1, 12, 6, 4, 4, generator=rng)
    order = torch.randperm(6, generator=rng)
    assert not torch.allclose(layer(video[:, :, order]), layer(video)[:, :, order], atol=1e-3)
    touched = video.clone()
    touched[:, 0, 2, 1, 3] += 1
    changed = (layer(touched) - layer(video)).abs().amax(dim=1)[0] > 1e-6
    assert changed[:, 1, 3].all()
    changed[:, 1, 3] = False
    assert not changed.any()


def test_attention_tells_the_frames_of_a_still_video_apart_by_their_number(rng):
    """Rotary positions alone could not: attention over equal values gives equal values."""
    layer = randomise(TemporalAttention(8, layers=1), rng)
    still = torch.randn(1, 8, 1, 2, 2, generator=rng).expand(-1, -1, 3, -1, -1)
    out = layer(still)
    assert (out[:, :, 0] - out[:, :, 2]).abs().max() > 0.01
    with torch.no_grad():
        layer.position.weight.zero_()
    without = layer(still)
    torch.testing.assert_close(without, without[:, :, :1].expand_as(without))


@pytest.mark.parametrize("layer", [TemporalConv, TemporalAttention, TemporalDownsample, TemporalUpsample])
def test_the_layers_work_in_bfloat16(layer, rng):
    video = torch.randn(1, 8, 4, 4, 4, generator=rng).bfloat16()
    assert layer(8).bfloat16()(video).dtype == torch.bfloat16


def test_an_even_kernel_and_odd_channels_are_refused():
    with pytest.raises(ValueError, match="an odd number expected, given 4"):
        TemporalConv(8, frames=4)
    with pytest.raises(ValueError, match="an even number expected, given 7"):
        TemporalAttention(7)
