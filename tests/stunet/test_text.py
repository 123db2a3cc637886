"""Text encoders by open_clip's names and layers, and DeepFloyd IF's way with prompts. No network: names and weights are
of this test's own.
"""

import json
import shutil

import open_clip
import pytest
import torch
from diffusers.pipelines.deepfloyd_if.pipeline_if import IFPipeline
from safetensors.torch import save_file

from stunet.text import OpenClipText, TextError, load_text_encoder

ARCHITECTURE = "small-clip-of-a-test"
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 3},
}
PROMPTS = ["a red circle", "", "blue stars move"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that open_clip knows by a plain name, and the file of its weights."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / f"{ARCHITECTURE}.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(folder / f"{ARCHITECTURE}.json")
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = open_clip.create_model(ARCHITECTURE).eval()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "clip.safetensors")
    return model, folder / "clip.safetensors"


@pytest.fixture
def load(trained, tmp_path):
    """`load(model=..., pretrained=...)`: the text encoder of a backbone whose JSON says so."""
    folder = tmp_path / "backbone" / "text_encoder"
    folder.mkdir(parents=True)
    shutil.copy(trained[1], folder.parent / "clip.safetensors")

    def loaded(**told):
        (folder / "open_clip_text.json").write_text(json.dumps(told))
        return load_text_encoder(tmp_path / "backbone")

    return loaded


def test_a_plain_name_with_its_weights_is_that_model_and_not_a_random_one(trained, load):
    text = load(model=ARCHITECTURE, pretrained="../clip.safetensors").encode(PROMPTS).hidden_BLD
    tokens = open_clip.get_tokenizer(ARCHITECTURE)(PROMPTS)
    pooled = text[torch.arange(3), tokens.argmax(-1)] @ trained[0].text_projection
    torch.testing.assert_close(pooled, trained[0].encode_text(tokens).detach())


def test_the_penultimate_layer_leaves_the_last_block_out_and_keeps_the_norm(trained, load):
    """As Stable Diffusion 2 was trained; checked against open_clip's own intermediate states."""
    model = trained[0]
    tokens = open_clip.get_tokenizer(ARCHITECTURE)(PROMPTS)
    with torch.no_grad():
        hidden = model.token_embedding(tokens) + model.positional_embedding
        _, states = model.transformer.forward_intermediates(hidden, attn_mask=model.attn_mask)
        expected = [model.ln_final(state) for state in states]
    for layer, place in (("penultimate", -2), ("last", -1)):
        text = load(model=ARCHITECTURE, pretrained="../clip.safetensors", layer=layer).encode(PROMPTS).hidden_BLD
        torch.testing.assert_close(text, expected[place])
    default = load(model=ARCHITECTURE, pretrained="../clip.safetensors").encode(PROMPTS).hidden_BLD
    torch.testing.assert_close(default, expected[-1])
    assert (expected[-1] - expected[-2]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "the key `model` is expected"),
        ({"model": ARCHITECTURE}, f"pretrained: a tag of open_clip or .* with model '{ARCHITECTURE}', given None"),
        ({"model": "ViT-H-14"}, "pretrained: .* with model 'ViT-H-14', given None; without it .* random"),
        (
            {"model": ARCHITECTURE, "pretrained": "../none.safetensors"},
            "pretrained: there is no file .*none",
        ),
        (
            {"model": ARCHITECTURE, "pretrained": "laion"},
            f"open_clip cannot load {ARCHITECTURE} with .* laion",
        ),
        ({"model": "ViT-Z-99", "pretrained": "../clip.safetensors"}, "open_clip cannot load ViT-Z-99 .* not found"),
        ({"model": ARCHITECTURE, "pretrained": "../clip.safetensors", "layer": 2}, "layer: last or penultimate .* 2"),
        ({"model": "hf-hub:a/b", "pretrained": "x"}, "pretrained: 'hf-hub:a/b' has weights of its own, given 'x' too"),
    ],
)
def test_a_model_without_its_weights_or_that_is_not_known_is_refused_by_its_file(load, tmp_path, told, message):
    file = tmp_path / "backbone" / "text_encoder" / "open_clip_text.json"
    with pytest.raises(TextError, match=f"{file}: {message}"):
        load(**told)


def test_a_local_folder_without_weights_and_weights_of_another_model_are_refused(load, tmp_path):
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "open_clip_config.json").write_text(json.dumps({"model_cfg": CLIP, "preprocess_cfg": {}}))
    with pytest.raises(TextError, match="open_clip cannot load local-dir:.*could not be loaded"):
        load(model="local-dir:../../clip")
    save_file({"token_embedding.weight": torch.zeros(2, 2)}, clip / "open_clip_model.safetensors")
    with pytest.raises(TextError, match="open_clip cannot load local-dir:.*"):
        load(model="local-dir:../../clip")
    (clip / "open_clip_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(TextError, match="open_clip cannot load local-dir:.*"):
        load(model="local-dir:../../clip")


def test_an_encoder_of_open_clip_is_frozen(trained, load):
    encoder = load(model=ARCHITECTURE, pretrained="../clip.safetensors")
    assert isinstance(encoder, OpenClipText)
    assert not any(value.requires_grad for value in encoder.parameters())


@pytest.mark.parametrize("kind", ["IFPipeline", "IFSuperResolutionPipeline"])
def test_deepfloyd_ifs_t5_reads_prompts_as_its_own_pipeline_hands_them_over(root, tmp_path, kind):
    folder = _copy(root, tmp_path, kind)
    prompt = "  A Red STAR moves Left "
    (plain,) = IFPipeline._text_preprocessing(None, prompt)
    encoder = load_text_encoder(folder)
    assert torch.equal(encoder.encode([prompt]).hidden_BLD, encoder.encode([plain]).hidden_BLD)


def test_another_models_t5_reads_prompts_as_they_are(root, tmp_path):
    encoder = load_text_encoder(_copy(root, tmp_path, "PixArtAlphaPipeline"))
    made = encoder.encode(["A Red STAR moves Left", "a red star moves left"]).hidden_BLD
    assert not torch.equal(made[0], made[1])


def _copy(root, tmp_path, kind):
    source, folder = root / "demo" / "weights" / "backbone", tmp_path / "t5"
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(source / name, folder / name)
    words = folder / "tokenizer" / "tokenizer.json"
    told = json.loads(words.read_text())
    assert told["normalizer"] is not None, "the demo's own lowers the case; T5's does not"
    words.write_text(json.dumps({**told, "normalizer": None}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder
