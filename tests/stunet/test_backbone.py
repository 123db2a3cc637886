"""A diffusers folder with a real open_clip text tower is loaded; what is missing is told by name."""

import json
import shutil

import open_clip
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from safetensors.torch import save_file

from stunet.backbone import (
    BackboneError,
    backbone_name,
    backbone_schedule,
    find_backbone,
    load_backbone,
    weights_digest,
)
from stunet.text import TextError

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}


@pytest.fixture
def folder(make_unet, tmp_path):
    backbone, clip = tmp_path / "weights" / "backbone", tmp_path / "weights" / "clip"
    make_unet("sd").half().save_pretrained(backbone / "unet")
    PNDMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction").save_pretrained(backbone / "scheduler")
    clip.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = {name: value.contiguous() for name, value in open_clip.CLIP(**CLIP).state_dict().items()}
    save_file(state, clip / "open_clip_model.safetensors")
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    (backbone / "text_encoder").mkdir()
    (backbone / "text_encoder" / "open_clip_text.json").write_text('{"model": "local-dir:../../clip"}')
    return backbone


def test_a_pixel_space_backbone_is_loaded_whole(folder):
    backbone = load_backbone(folder)
    assert backbone.name == "backbone"
    assert backbone.vae is None
    assert backbone.unet.dtype == torch.float32
    assert not backbone.unet.training
    assert backbone.scheduler.config["prediction_type"] == "v_prediction"
    assert len(backbone.scheduler.alphas_cumprod) == 1000
    assert backbone.digest == weights_digest(folder)


def test_text_is_the_hidden_states_whose_pooled_token_open_clip_projects(folder):
    text = load_backbone(folder).text_encoder.encode(["a red circle", ""]).hidden_BLD
    assert text.shape == (2, 12, 24)
    assert not text.requires_grad
    name = f"local-dir:{folder.parent / 'clip'}"
    model, tokens = open_clip.create_model(name), open_clip.get_tokenizer(name)(["a red circle", ""])
    pooled = text[torch.arange(2), tokens.argmax(-1)] @ model.text_projection
    torch.testing.assert_close(pooled, model.encode_text(tokens))


def test_the_digest_is_of_the_weights_not_of_the_place(folder, make_unet, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere" / "other")
    assert weights_digest(tmp_path / "elsewhere" / "other") == weights_digest(folder)
    make_unet("sd", seed=1).half().save_pretrained(tmp_path / "elsewhere" / "other" / "unet")
    assert weights_digest(tmp_path / "elsewhere" / "other") != weights_digest(folder)


def test_a_vae_is_loaded_where_there_is_one_and_frozen(folder):
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4).save_pretrained(folder / "vae")
    vae = load_backbone(folder).vae
    assert vae is not None
    assert not any(value.requires_grad for value in vae.parameters())


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("unet/config.json", r"unet/config\.json is missing"),
        ("unet/diffusion_pytorch_model.safetensors", r"unet/diffusion_pytorch_model\.safetensors is missing"),
        ("scheduler/scheduler_config.json", r"scheduler/scheduler_config\.json is missing"),
    ],
)
def test_a_missing_file_is_told_by_name(folder, missing, message):
    (folder / missing).unlink()
    with pytest.raises(BackboneError, match=f"{folder}.*{message}"):
        load_backbone(folder)


def test_a_missing_text_encoder_is_told_by_name(folder):
    (folder / "text_encoder" / "open_clip_text.json").write_text('{"model": "local-dir:../../clap"}')
    with pytest.raises(TextError, match=r"model 'local-dir:../../clap' has no open_clip_config\.json"):
        load_backbone(folder)
    (folder / "text_encoder" / "open_clip_text.json").unlink()
    with pytest.raises(TextError, match=r"text_encoder: open_clip_text\.json or transformers' config\.json"):
        load_backbone(folder)


def test_a_text_encoder_without_its_tokenizer_is_refused_by_name(folder):
    (folder / "text_encoder" / "open_clip_text.json").unlink()
    (folder / "text_encoder" / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(TextError, match=f"{folder}/tokenizer: the tokenizer of text_encoder is expected"):
        load_backbone(folder)


def test_a_hub_name_is_fetched_where_there_is_no_such_folder(folder):
    asked: list[str] = []

    def fetch(name: str) -> str:
        asked.append(name)
        return str(folder)

    assert find_backbone("organisation/model", fetch) == folder.resolve()
    assert asked == ["organisation/model"]
    assert find_backbone(folder, fetch) == folder.resolve()
    assert asked == ["organisation/model"], "a folder is taken as it is"


def test_a_name_that_cannot_be_had_is_refused(tmp_path):
    def fetch(name: str) -> str:
        raise OSError("no way out")

    with pytest.raises(BackboneError, match="organisation/model: no such folder, and the hub has it not .* no way out"):
        find_backbone("organisation/model", fetch)
    with pytest.raises(BackboneError, match=f"{tmp_path}/none: a diffusers folder or a hub name is expected"):
        find_backbone(tmp_path / "none", fetch)


def test_a_transformers_t5_gives_one_state_a_token_and_does_not_look_at_padding(root):
    encoder = load_backbone(root / "demo" / "weights" / "backbone").text_encoder
    text = encoder.encode(["a red star moves left", "a red star moves right", ""]).hidden_BLD
    assert text.shape == (3, 24, 64)
    assert not text.requires_grad
    assert (text[0] - text[1]).abs().max() > 0.5, "the words of motion are kept"
    alone = encoder.encode(["a red star moves left"]).hidden_BLD
    torch.testing.assert_close(alone[0], text[0])


def test_a_text_encoder_of_another_kind_is_refused_by_its_kind(folder):
    (folder / "text_encoder" / "open_clip_text.json").unlink()
    (folder / "text_encoder" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(TextError, match=r"model_type clip_text_model or t5 expected, given 'bert'"):
        load_backbone(folder)


def test_a_transformers_clip_reads_all_of_its_tokens(folder, root):
    from transformers import CLIPTextConfig, CLIPTextModel

    (folder / "text_encoder" / "open_clip_text.json").unlink()
    shape = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPTextModel(CLIPTextConfig(vocab_size=99, max_position_embeddings=24, **shape)).save_pretrained(
        folder / "text_encoder"
    )
    shutil.copytree(root / "demo" / "weights" / "backbone" / "tokenizer", folder / "tokenizer")
    assert load_backbone(folder).text_encoder.encode(["a red star", ""]).hidden_BLD.shape == (2, 24, 24)


def test_a_hub_name_stays_the_name_of_its_copy_in_the_hubs_cache(folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--organisation--small.model" / "snapshots" / ("ab" * 20)
    snapshot.parent.mkdir(parents=True)
    shutil.copytree(folder.parent, snapshot.parent / "whole")
    (snapshot.parent / "whole" / "backbone").rename(snapshot)
    (snapshot.parent / "whole" / "clip").rename(snapshot.parent / "clip")
    (snapshot / "text_encoder" / "open_clip_text.json").write_text('{"model": "local-dir:../../clip"}')
    assert load_backbone(snapshot).name == "organisation/small.model"
    assert backbone_name("organisation/small.model") == backbone_name(snapshot)
    assert backbone_name(folder) == backbone_name(folder / "unet" / "..") == "backbone"


def test_the_schedule_of_a_folder_is_that_of_the_loaded_backbone_and_not_of_its_own_sampler(folder):
    schedule = backbone_schedule(folder)
    assert schedule == load_backbone(folder).schedule
    assert schedule == {
        "prediction_type": "v_prediction",
        "num_train_timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "rescale_betas_zero_snr": False,
    }
    PNDMScheduler(beta_schedule="squaredcos_cap_v2", beta_end=0.5).save_pretrained(folder / "scheduler")
    assert "beta_end" not in backbone_schedule(folder), "a cosine schedule has no use for it"
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(BackboneError, match=r"scheduler/scheduler_config\.json is missing"):
        backbone_schedule(folder)
