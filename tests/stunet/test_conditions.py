"""C and M of each task, on tensors: M is 1 where the content is known (property 5)."""

import pytest
import torch

from stunet.conditions import cinemagraph, image_to_video, inpainting, joined, outpainting


def test_image_to_video_knows_frame_0_and_nothing_else(rng):
    image = torch.randn(2, 3, 4, 6, generator=rng)
    video, mask = image_to_video(image, 5)
    assert torch.equal(video[:, :, 0], image)
    assert not video[:, :, 1:].any()
    assert mask[:, :, 0].all()
    assert not mask[:, :, 1:].any()


def test_inpainting_knows_all_but_the_region_to_fill(rng):
    video, fill = torch.randn(2, 3, 5, 4, 6, generator=rng), torch.zeros(2, 1, 5, 4, 6)
    fill[..., 2:] = 1
    known = inpainting(video, fill)
    assert torch.equal(known.video_BCTHW[..., :2], video[..., :2])
    assert not known.video_BCTHW[..., 2:].any()
    assert torch.equal(known.mask_B1THW, 1 - fill)


def test_outpainting_knows_the_video_on_its_canvas(rng):
    video = torch.randn(1, 3, 2, 4, 6, generator=rng)
    known = outpainting(video, (8, 10), (1, 3))
    assert torch.equal(known.video_BCTHW[..., 1:5, 3:9], video)
    assert known.mask_B1THW[..., 1:5, 3:9].all()
    assert known.mask_B1THW.sum() == 2 * 4 * 6
    assert not (known.video_BCTHW * (1 - known.mask_B1THW)).any()
    with pytest.raises(ValueError, match=r"4x6 at \(5, 0\) expected to fit into 8x10"):
        outpainting(video, (8, 10), (5, 0))


def test_a_cinemagraph_knows_frame_0_and_what_does_not_move(rng):
    image, moving = torch.randn(1, 3, 4, 6, generator=rng), torch.zeros(1, 1, 4, 6)
    moving[..., :2] = 1
    video, mask = cinemagraph(image, moving, 3)
    assert torch.equal(video, image[:, :, None].expand_as(video))
    assert mask[:, :, 0].all()
    assert torch.equal(mask[:, :, 1:], (1 - moving)[:, :, None].expand(-1, -1, 2, -1, -1))


def test_noise_video_and_mask_join_on_channels_in_this_order(rng):
    noisy = torch.randn(1, 3, 2, 4, 6, generator=rng)
    known = image_to_video(torch.randn(1, 3, 4, 6, generator=rng), 2)
    whole = joined(noisy, known)
    assert whole.shape == (1, 7, 2, 4, 6)
    assert torch.equal(whole[:, :3], noisy)
    assert torch.equal(whole[:, 3:6], known.video_BCTHW)
    assert torch.equal(whole[:, 6:], known.mask_B1THW)


def test_a_mask_of_another_shape_is_refused(rng):
    with pytest.raises(ValueError, match=r"fill: a mask of shape \(1, 1, 2, 4, 6\) expected, given \(1, 1, 4, 6\)"):
        inpainting(torch.zeros(1, 3, 2, 4, 6), torch.zeros(1, 1, 4, 6))
    with pytest.raises(ValueError, match="moving: a mask"):
        cinemagraph(torch.zeros(1, 3, 4, 6), torch.zeros(1, 3, 4, 6), 2)
