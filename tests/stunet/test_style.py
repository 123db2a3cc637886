"""Styles from files: a fine-tuned U-Net, and LoRAs in the formats that diffusers has written (property 6)."""

import json

import pytest
import torch
from safetensors.torch import save_file

from stunet.inflate import image_state_dict, inflate, temporal_parameters
from stunet.lora import fused, load_style, style_files
from stunet.style import StyleError, apply_image_state, interpolate

LINEAR = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "mid_block.resnets.0.conv1"


@pytest.fixture
def state(make_unet):
    return make_unet("sd").state_dict()


def halves(state, layer, rank, rng):
    weight = state[f"{layer}.weight"]
    down = torch.randn(rank, *weight.shape[1:], generator=rng)
    up = torch.randn(weight.shape[0], rank, *[1] * (weight.ndim - 2), generator=rng)
    return down, up


def test_a_lora_adds_the_product_of_its_halves_to_its_layers_and_to_no_others(state, rng):
    (down, up), (kernel, mix) = halves(state, LINEAR, 2, rng), halves(state, CONV, 3, rng)
    lora = {
        f"unet.{LINEAR}.lora_A.weight": down,
        f"unet.{LINEAR}.lora_B.weight": up,
        f"unet.{CONV}.lora_A.weight": kernel,
        f"unet.{CONV}.lora_B.weight": mix,
        "text_encoder.layers.0.lora_A.weight": torch.zeros(1),
    }
    made = fused(state, lora, "lora")
    torch.testing.assert_close(made[f"{LINEAR}.weight"], state[f"{LINEAR}.weight"] + up @ down)
    picture = torch.randn(1, kernel.shape[1], 5, 5, generator=rng)
    twice = torch.nn.functional.conv2d(torch.nn.functional.conv2d(picture, kernel, padding=1), mix)
    change = made[f"{CONV}.weight"] - state[f"{CONV}.weight"]
    torch.testing.assert_close(torch.nn.functional.conv2d(picture, change, padding=1), twice, atol=1e-3, rtol=1e-3)
    changed = {name for name in state if not torch.equal(made[name], state[name])}
    assert changed == {f"{LINEAR}.weight", f"{CONV}.weight"}


def test_alpha_over_rank_scales_a_lora_wherever_it_is_told(state, rng, tmp_path):
    down, up = halves(state, OUT, 4, rng)
    change = up @ down
    own = {f"{OUT}.lora.down.weight": down, f"{OUT}.lora.up.weight": up, f"{OUT}.alpha": torch.tensor(2.0)}
    torch.testing.assert_close(fused(state, own, "l")[f"{OUT}.weight"], state[f"{OUT}.weight"] + change / 2)
    old = OUT.replace("attn1.to_out.0", "attn1.processor.to_out")
    processors = {f"unet.{old}_lora.down.weight": down, f"unet.{old}_lora.up.weight": up}
    torch.testing.assert_close(fused(state, processors, "l")[f"{OUT}.weight"], state[f"{OUT}.weight"] + change)
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.r": 4})}
    tensors = {f"unet.{OUT}.lora_A.weight": down, f"unet.{OUT}.lora_B.weight": up}
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors", header)
    made = load_style(tmp_path, state)
    torch.testing.assert_close(made[f"{OUT}.weight"], state[f"{OUT}.weight"] + 2 * change)


def test_a_style_is_a_diffusers_folder_a_file_or_a_lora(make_unet, state, rng, tmp_path):
    style = make_unet("sd", seed=9)
    style.save_pretrained(tmp_path / "style" / "unet")
    for path in ("style", "style/unet", "style/unet/diffusion_pytorch_model.safetensors"):
        made = load_style(tmp_path / path, state)
        assert all(torch.equal(made[name], value) for name, value in style.state_dict().items())


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_lora_style_is_mixed_in_by_alpha_and_temporal_weights_are_never_touched(make_unet, rng, alpha):
    stunet = inflate(make_unet("sd"))
    with torch.no_grad():
        for value in temporal_parameters(stunet).values():
            value.normal_(generator=rng)
    temporal = {name: value.detach().clone() for name, value in temporal_parameters(stunet).items()}
    base = {name: value.clone() for name, value in image_state_dict(stunet).items()}
    down, up = halves(base, LINEAR, 2, rng)
    style = fused(base, {f"{LINEAR}.lora_A.weight": down, f"{LINEAR}.lora_B.weight": up}, "lora")
    apply_image_state(stunet, interpolate(base, style, alpha))
    worn = image_state_dict(stunet)
    torch.testing.assert_close(worn[f"{LINEAR}.weight"], base[f"{LINEAR}.weight"] + alpha * up @ down)
    others = [name for name in base if name != f"{LINEAR}.weight"]
    assert all(torch.equal(worn[name], base[name]) for name in others)
    assert alpha or torch.equal(worn[f"{LINEAR}.weight"], base[f"{LINEAR}.weight"])
    assert all(torch.equal(value, temporal[name]) for name, value in temporal_parameters(stunet).items())


def test_a_lora_that_does_not_fit_is_refused_by_its_layer(state, rng, tmp_path):
    down, up = halves(state, LINEAR, 2, rng)
    cases = {
        r"l: nowhere\.to_q: the U-Net has no such layer": {
            "nowhere.to_q.lora_A.weight": down,
            "nowhere.to_q.lora_B.weight": up,
        },
        rf"l: {LINEAR}: both halves of a LoRA expected": {f"{LINEAR}.lora_A.weight": down},
        rf"l: {LINEAR}: \(48, 48\) expected, given \(48, 3\)": {
            f"{LINEAR}.lora_A.weight": down[:, :3],
            f"{LINEAR}.lora_B.weight": up,
        },
        "l: a LoRA for the U-Net is expected": {"text_encoder.q.lora_A.weight": down},
    }
    for message, lora in cases.items():
        with pytest.raises(StyleError, match=message):
            fused(state, lora, "l")
    with pytest.raises(StyleError, match=r"style .*none: a diffusers folder or a \.safetensors file is expected"):
        load_style(tmp_path / "none", state)


def test_the_rank_stabilised_scale_is_alpha_over_the_root_of_the_rank(state, rng, tmp_path):
    down, up = halves(state, OUT, 4, rng)
    tensors = {f"unet.{OUT}.lora_A.weight": down, f"unet.{OUT}.lora_B.weight": up}
    told = {"unet.lora_alpha": 6, "unet.r": 4, "unet.use_rslora": True}
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_adapter_metadata": json.dumps(told)})
    made = load_style(tmp_path / "lora.safetensors", state)
    torch.testing.assert_close(made[f"{OUT}.weight"], state[f"{OUT}.weight"] + 3 * (up @ down))


@pytest.mark.parametrize("prefix", ["unet.", ""])  # of diffusers' pipelines, and of a U-Net alone
def test_patterns_of_alpha_name_the_end_of_a_layers_name_or_are_regular_expressions(state, rng, tmp_path, prefix):
    first, second = LINEAR, "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k"
    layers = {layer: halves(state, layer, 2, rng) for layer in (first, second, OUT)}
    tensors = {}
    for layer, (down, up) in layers.items():
        tensors |= {f"{prefix}{layer}.lora_A.weight": down, f"{prefix}{layer}.lora_B.weight": up}
    patterns = {"to_q": 8, r"down_blocks\.\d+\..*\.to_k": 6, "o_out.0": 100}  # the last is no whole part of a name
    told = {f"{prefix}lora_alpha": 2, f"{prefix}r": 2, f"{prefix}alpha_pattern": patterns}
    told |= {"text_encoder.lora_alpha": 50}
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_adapter_metadata": json.dumps(told)})
    made = load_style(tmp_path / "lora.safetensors", state)
    for layer, scale in ((first, 4), (second, 3), (OUT, 1)):
        down, up = layers[layer]
        torch.testing.assert_close(made[f"{layer}.weight"], state[f"{layer}.weight"] + scale * (up @ down))


def test_kinds_of_lora_that_cannot_be_fused_are_refused_by_what_they_are(state, rng, tmp_path):
    down, up = halves(state, LINEAR, 2, rng)
    pair = {f"unet.{LINEAR}.lora_A.weight": down, f"unet.{LINEAR}.lora_B.weight": up}
    kohya = "lora_unet_mid_block_attentions_0_proj_in"
    cases = {
        rf"{LINEAR}\.lora_magnitude_vector: a DoRA": pair | {f"unet.{LINEAR}.lora_magnitude_vector": up[:, 0]},
        rf"{LINEAR}\.dora_scale: a DoRA": pair | {f"{LINEAR}.dora_scale": up[:, 0]},
        rf"{LINEAR}\.lora_B\.bias: .* a bias of them \(lora_bias\)": pair | {f"unet.{LINEAR}.lora_B.bias": up[:, 0]},
        rf"{LINEAR}\.hada_w1_a: a key that ends in one of": pair | {f"unet.{LINEAR}.hada_w1_a": up},
        rf"diffusers' format of a LoRA is expected .* given kohya's \({kohya}": {
            f"{kohya}.lora_down.weight": down,
            f"{kohya}.lora_up.weight": up,
            f"{kohya}.alpha": torch.tensor(1.0),
        },
    }
    for message, tensors in cases.items():
        save_file({key: value.clone().contiguous() for key, value in tensors.items()}, tmp_path / "lora.safetensors")
        with pytest.raises(StyleError, match=rf"lora\.safetensors: .*{message}"):
            load_style(tmp_path / "lora.safetensors", state)
    for key, message in (("use_dora", "a DoRA"), ("lora_bias", "a LoRA with biases")):
        header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2, f"unet.{key}": True})}
        save_file(pair, tmp_path / "lora.safetensors", header)
        with pytest.raises(StyleError, match=rf"{message} \({key} in its header\) cannot be fused"):
            load_style(tmp_path / "lora.safetensors", state)


def test_a_style_in_several_files_is_loaded_whole(make_unet, state, tmp_path):
    style = make_unet("sd", seed=9)
    style.save_pretrained(tmp_path / "style" / "unet", max_shard_size="100KB")
    shards = sorted((tmp_path / "style" / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    for path in ("style", "style/unet"):
        made = load_style(tmp_path / path, state)
        assert made.keys() == state.keys()
        assert all(torch.equal(made[name], value) for name, value in style.state_dict().items())
        assert style_files(tmp_path / path) == shards
    shards[-1].unlink()
    with pytest.raises(StyleError, match=rf"{shards[-1].name} is named in it and is not there"):
        load_style(tmp_path / "style", state)
