"""Stored temporal weights: whole, readable by their own backbone only, the same bytes for the same parameters."""

import dataclasses
import json

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from stunet.backbone import load_backbone
from stunet.inflate import InflationConfig, image_state_dict, inflate, temporal_parameters
from stunet.style import StyleError, apply_image_state, interpolate
from stunet.weights import WeightsError, check_schedule, digest, load, load_stunet, read_metadata, save


def scrambled(make_unet, rng, **inflation):
    stunet = inflate(make_unet("sd"), InflationConfig(**inflation))
    with torch.no_grad():
        for value in temporal_parameters(stunet).values():
            value.normal_(generator=rng)
    return stunet


def test_weights_come_back_with_their_inflation_and_what_the_writer_added(make_unet, rng, tmp_path):
    stunet = scrambled(make_unet, rng, attention_layers=1, conv_pixels=0)
    save(stunet, tmp_path / "model", "tiny", "ab" * 32, {"fps": 8, "num_frames": 16})
    metadata = read_metadata(tmp_path / "model")
    assert (metadata.backbone_name, metadata.extra) == ("tiny", {"fps": 8, "num_frames": 16})
    again = inflate(make_unet("sd"), metadata.inflation)
    load(again, tmp_path / "model", "ab" * 32)
    expected = temporal_parameters(stunet)
    assert all(torch.equal(value, expected[name]) for name, value in temporal_parameters(again).items())
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["temporal.json", "temporal.safetensors"]
    readable = json.loads((tmp_path / "model" / "temporal.json").read_text())
    assert readable["backbone_name"] == "tiny"
    assert readable["parameters"] == sum(value.numel() for value in expected.values())


def test_only_temporal_parameters_are_stored_and_equal_ones_give_equal_bytes(make_unet, rng, tmp_path):
    stunet = scrambled(make_unet, rng)
    save(stunet, tmp_path / "a", "tiny", "00", {"step": 1})
    save(stunet, tmp_path / "b", "tiny", "00", {"step": 1})
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    size = sum(value.numel() for value in temporal_parameters(stunet).values()) * 4
    assert size < (tmp_path / "a" / "temporal.safetensors").stat().st_size < size + 40_000


def test_the_moving_average_is_stored_in_place_of_the_parameters(make_unet, rng, tmp_path):
    stunet = scrambled(make_unet, rng)
    before = {name: value.detach().clone() for name, value in temporal_parameters(stunet).items()}
    average = {name: value / 2 for name, value in before.items()}
    save(stunet, tmp_path, "tiny", "00", {}, values=average)
    assert all(torch.equal(value, before[name]) for name, value in temporal_parameters(stunet).items())
    load(stunet, tmp_path, "00")
    assert all(torch.equal(value, average[name]) for name, value in temporal_parameters(stunet).items())
    with pytest.raises(ValueError, match="values: the names of the temporal parameters are expected, nothing is not"):
        save(stunet, tmp_path, "tiny", "00", {}, values=average | {"nothing": torch.zeros(1)})


def test_another_backbone_is_refused_by_both_names(make_unet, rng, tmp_path):
    stunet = scrambled(make_unet, rng)
    save(stunet, tmp_path, "tiny", "aa" * 32, {})
    with pytest.raises(WeightsError, match=r"belong to the backbone 'tiny' \(aaaaaaaaaaaa\), not to 'big' \(bb"):
        load(stunet, tmp_path, "bb" * 32, "big")


def test_a_stunet_is_loaded_as_it_was_trained_and_for_its_own_backbone_only(root, rng, tmp_path):
    backbone = load_backbone(root / "demo" / "weights" / "backbone")
    stunet = inflate(backbone.unet, InflationConfig(temporal_factor=2, is_conditioned=True))
    with torch.no_grad():
        for value in temporal_parameters(stunet).values():
            value.normal_(generator=rng)
    save(stunet, tmp_path, backbone.name, backbone.digest, {})
    again = load_stunet(backbone, tmp_path)
    assert (again.config, again.temporal_factor) == (stunet.config, 2)
    expected = temporal_parameters(stunet)
    assert all(torch.equal(value, expected[name]) for name, value in temporal_parameters(again).items())
    other = dataclasses.replace(backbone, name="other", digest="ff" * 32)
    with pytest.raises(WeightsError, match=r"belong to the backbone 'backbone' .*, not to 'other' \(ffff"):
        load_stunet(other, tmp_path)


def test_missing_damaged_and_foreign_files_are_refused_by_name(make_unet, rng, tmp_path):
    stunet = scrambled(make_unet, rng)
    with pytest.raises(WeightsError, match=r"temporal\.safetensors: no such file"):
        read_metadata(tmp_path)
    (tmp_path / "temporal.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_metadata(tmp_path)
    save(stunet, tmp_path, "tiny", "00", {})
    with pytest.raises(WeightsError, match="trained with attention_layers 2, here it is 1"):
        load(inflate(make_unet("sd"), InflationConfig(attention_layers=1)), tmp_path, "00")
    with pytest.raises(WeightsError, match="other layers than this STUNet's"):
        load(inflate(make_unet("if")), tmp_path, "00")


def test_style_alpha_0_is_the_base_and_1_the_style_bit_exactly_and_temporal_weights_stay(make_unet, rng):
    stunet = scrambled(make_unet, rng)
    base = {name: value.clone() for name, value in image_state_dict(stunet).items()}
    style = make_unet("sd", seed=9).state_dict()
    temporal = {name: value.detach().clone() for name, value in temporal_parameters(stunet).items()}
    assert all(torch.equal(value, base[name]) for name, value in interpolate(base, style, 0.0).items())
    assert all(torch.equal(value, style[name]) for name, value in interpolate(base, style, 1.0).items())
    half = interpolate(base, style, 0.5)
    apply_image_state(stunet, half)
    name = "mid_block.resnets.0.conv1.weight"
    torch.testing.assert_close(image_state_dict(stunet)[name], (base[name] + style[name]) / 2)
    assert all(torch.equal(value, temporal[name]) for name, value in temporal_parameters(stunet).items())


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_an_alpha_outside_0_to_1_and_a_foreign_style_are_refused(make_unet, alpha):
    base = make_unet("sd").state_dict()
    with pytest.raises(StyleError, match=f"alpha: 0 to 1 expected, given {alpha}"):
        interpolate(base, base, alpha)
    with pytest.raises(StyleError, match="is not in both"):
        interpolate(base, make_unet("sdxl").state_dict(), 0.5)
    with pytest.raises(StyleError, match=r"conv_in\.weight: .* expected, given"):
        interpolate(base, base | {"conv_in.weight": torch.zeros(1)}, 0.5)


def test_another_schedule_or_prediction_type_is_refused_by_both_values(root, tmp_path):
    backbone = load_backbone(root / "demo" / "weights" / "backbone")
    stunet = inflate(backbone.unet, InflationConfig(temporal_factor=2))
    save(stunet, tmp_path, backbone.name, backbone.digest, {}, schedule=backbone.schedule)
    assert read_metadata(tmp_path).schedule == backbone.schedule
    load_stunet(backbone, tmp_path)
    for key, value, message in (
        ("prediction_type", "epsilon", "prediction_type 'v_prediction', .* has 'epsilon'"),
        ("beta_schedule", "linear", "beta_schedule 'squaredcos_cap_v2', .* has 'linear'"),
        ("num_train_timesteps", 500, "num_train_timesteps 1000, .* has 500"),
    ):
        scheduler = DDPMScheduler.from_config(backbone.scheduler.config, **{key: value})
        other = dataclasses.replace(backbone, scheduler=scheduler)
        with pytest.raises(WeightsError, match=rf"temporal\.safetensors: these weights were trained with {message}"):
            load_stunet(other, tmp_path)


def test_weights_that_were_stored_without_a_schedule_are_loaded_with_any(root):
    """As those of the demo were."""
    metadata = read_metadata(root / "demo" / "weights" / "stunet")
    assert metadata.schedule is None
    check_schedule(metadata, "somewhere", {"prediction_type": "epsilon"})
    backbone = load_backbone(root / "demo" / "weights" / "backbone")
    assert load_stunet(backbone, root / "demo" / "weights" / "stunet").temporal_factor > 1
