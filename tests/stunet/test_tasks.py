"""Tasks drawn at random: functions of the sample alone, with masks that mean what they say (property 5)."""

import pytest
import torch

from stunet.conditions import joined
from stunet.inflate import InflationConfig, image_state_dict, inflate, temporal_parameters
from stunet.tasks import TaskConfig, draw_tasks, moving_box

ALL = TaskConfig(1, 1, 1, 1, 1, dropout=0.0)


def only(task: str, **others: float) -> TaskConfig:
    return TaskConfig(**{"text_to_video": 0.0, "dropout": 0.0, task: 1.0} | others)


@pytest.fixture
def moving() -> torch.Tensor:
    """A bright square of 4 pixels that goes right, two pixels a frame, over faint noise that codecs leave."""
    video = torch.randn(1, 3, 6, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.01 - 0.5
    for t in range(6):
        video[..., t, 8:12, 2 + 2 * t : 6 + 2 * t] = 0.8
    return video


@pytest.mark.parametrize("topology", ["sd", "sdxl", "if"])
def test_the_widened_model_equals_the_plain_one_at_init_whatever_is_known(make_unet, conditions, rng, topology):
    unet = make_unet(topology)
    plain, widened = inflate(unet).eval(), inflate(unet, InflationConfig(is_conditioned=True)).eval()
    channels = unet.config.in_channels
    noisy, known = torch.randn(2, 2, channels, 8, 16, 16, generator=rng)
    text, timestep = torch.randn(2, 7, 24, generator=rng), torch.tensor([100, 900])
    others = conditions(topology, 2)
    with torch.no_grad():
        expected = plain(noisy, timestep, text, **others)
        mask = torch.ones_like(noisy[:, :1])
        made = widened(torch.cat([noisy, known, mask], dim=1), timestep, text, **others)
        without = widened(noisy, timestep, text, **others)
    assert made.shape == expected.shape
    assert torch.equal(made, expected)
    assert torch.equal(without, expected)


def test_the_widening_trains_and_the_image_weights_stay_bit_exact(make_unet, rng):
    unet = make_unet("sd")
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    stunet = inflate(unet, InflationConfig(is_conditioned=True))
    trained = temporal_parameters(stunet)
    assert trained["unet.conv_in.known.weight"].shape == (16, 5, 3, 3)
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    video = torch.randn(1, 9, 8, 16, 16, generator=rng)
    stunet(video, torch.tensor([5]), torch.randn(1, 7, 24, generator=rng)).square().mean().backward()
    optimizer.step()
    assert trained["unet.conv_in.known.weight"].any()
    after = image_state_dict(stunet)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_samples_task_does_not_depend_on_its_batch(rng):
    video = torch.randn(6, 3, 4, 16, 16, generator=rng)
    whole = draw_tasks(3, range(10, 16), video, ALL)
    for index in range(6):
        alone = draw_tasks(3, [10 + index], video[index : index + 1], ALL)
        assert alone.names == whole.names[index : index + 1]
        assert torch.equal(alone.known.mask_B1THW[0], whole.known.mask_B1THW[index])
        assert torch.equal(alone.video_BCTHW[0], whole.video_BCTHW[index])
    assert draw_tasks(4, range(10, 16), video, ALL).names != whole.names


def test_tasks_come_in_their_shares_and_knowledge_is_dropped_at_its_rate():
    config = TaskConfig(text_to_video=2, image_to_video=1, inpainting=1, dropout=0.25)
    drawn = draw_tasks(0, range(1200), torch.ones(1200, 1, 1, 4, 4), config)
    shares = {name: drawn.names.count(name) / 1200 for name in ALL.shares}
    assert shares == pytest.approx(
        {"text_to_video": 0.5, "image_to_video": 0.25, "inpainting": 0.25, "outpainting": 0, "cinemagraph": 0}, abs=0.05
    )
    is_image = torch.tensor([name == "image_to_video" for name in drawn.names])
    unknown = ~drawn.known.mask_B1THW[is_image].flatten(1).any(1)
    assert unknown.float().mean().item() == pytest.approx(0.25, abs=0.07)


def test_what_is_known_is_the_video_itself_and_the_rest_is_blank(moving):
    for task in ALL.shares:
        for index in range(5):
            video, (c, m), _ = draw_tasks(1, [index], moving, only(task))
            assert torch.equal(c * m, video * m), f"{task}: known pixels are the video's"
            assert set(m.unique().tolist()) <= {0.0, 1.0}
            if task not in ("cinemagraph",):  # whose C is the image in every frame
                assert not (c * (1 - m)).any()


def test_each_task_knows_what_the_paper_says(moving):
    masks = {task: draw_tasks(1, [7], moving, only(task)).known.mask_B1THW[0, 0] for task in ALL.shares}
    assert not masks["text_to_video"].any()
    assert masks["image_to_video"].flatten(1).all(1).tolist() == [True, False, False, False, False, False]
    assert not masks["image_to_video"][1:].any()
    for task in ("inpainting", "outpainting"):
        share = masks[task].mean().item()
        assert 0 < share < 1
        assert torch.equal(masks[task], masks[task][:1].expand_as(masks[task]))
    assert masks["cinemagraph"][0].all()
    assert torch.equal(masks["cinemagraph"][1], masks["cinemagraph"][5])
    assert 0 < masks["cinemagraph"][1].mean().item() < 1


def test_a_cinemagraph_stands_still_outside_its_region_and_moves_inside(moving):
    video, known, _ = draw_tasks(1, [3], moving, only("cinemagraph"))
    is_outside = known.mask_B1THW[0, 0, 1] > 0
    assert not video[..., is_outside].diff(dim=2).any()
    assert torch.equal(video[..., ~is_outside], moving[..., ~is_outside])
    assert video.diff(dim=2).any()


def test_the_moving_box_holds_all_that_moves_and_no_more(moving):
    box = moving_box(moving, margin=0.0)[0, 0]
    assert box.nonzero().amin(0).tolist() == [8, 2]
    assert box.nonzero().amax(0).tolist() == [11, 15]
    assert box.sum() == 4 * 14
    assert moving_box(moving, margin=0.1).sum() > box.sum()
    assert not moving_box(moving[:, :, :1].expand(-1, -1, 4, -1, -1), margin=0.1).any()


def test_shares_that_cannot_be_used_are_refused_by_name():
    with pytest.raises(ValueError, match=r"dropout: 0 to 1 expected, given 2"):
        TaskConfig(dropout=2.0)
    with pytest.raises(ValueError, match="tasks: shares of at least 0 and one above it expected"):
        TaskConfig(text_to_video=0.0)
    with pytest.raises(ValueError, match="tasks: shares"):
        TaskConfig(inpainting=-1.0)


def test_drawn_knowledge_joins_a_noisy_video(moving):
    drawn = draw_tasks(0, [1], moving, only("inpainting"))
    assert joined(moving, drawn.known).shape == (1, 7, 6, 24, 24)
