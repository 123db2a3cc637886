"""A backbone with two text encoders: its conditions are those of diffusers' own pipeline."""

import json
import shutil

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from huggingface_hub.utils import filter_repo_objects

from stunet.backbone import NEEDED_FILES, BackboneError, load_backbone
from stunet.inflate import inflate
from stunet.sampler import Prompts, SamplerConfig, guided
from stunet.text import Text, TextError, load_text_encoder
from stunet.windows import windowed

PROMPTS = ["a red star", "blue circles move left then right then left again"]
EXACT = {"atol": 1e-6, "rtol": 0}


@pytest.fixture(scope="module")
def pipeline(sdxl):
    return StableDiffusionXLPipeline.from_pretrained(sdxl)


@pytest.fixture
def folder(sdxl, tmp_path):
    return shutil.copytree(sdxl, tmp_path / "small-sdxl")


def test_states_and_pooled_embedding_are_those_of_diffusers_pipeline(sdxl, pipeline):
    text, null = (load_text_encoder(sdxl).encode(prompts) for prompts in (PROMPTS, ["", ""]))
    hidden, null_hidden, pooled, null_pooled = pipeline.encode_prompt(PROMPTS)
    assert hidden.shape == (2, 12, 16 + 8)
    assert pooled.shape == (2, 20)
    torch.testing.assert_close(text.hidden_BLD, hidden, **EXACT)
    torch.testing.assert_close(text.pooled_BP, pooled, **EXACT)
    torch.testing.assert_close(null.hidden_BLD, null_hidden, **EXACT)
    torch.testing.assert_close(null.pooled_BP, null_pooled, **EXACT)
    assert not text.hidden_BLD.requires_grad
    assert (hidden[0] - hidden[1]).abs().max() > 0.1, "the prompts differ"


def test_in_a_batch_the_empty_prompt_alone_is_zeros(sdxl):
    encoder = load_text_encoder(sdxl)
    text, alone = encoder.encode(["", "a red star"]), encoder.encode(["a red star"])
    assert not text.hidden_BLD[0].any()
    assert not text.pooled_BP[0].any()
    torch.testing.assert_close(text.hidden_BLD[1:], alone.hidden_BLD, **EXACT)
    torch.testing.assert_close(text.pooled_BP[1:], alone.pooled_BP, **EXACT)


def test_the_empty_prompt_is_what_the_models_make_of_it_where_the_folder_says_so(folder):
    index = json.loads((folder / "model_index.json").read_text())
    assert index["force_zeros_for_empty_prompt"] is True
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": False}))
    text = load_text_encoder(folder).encode(["", ""])
    _, null_hidden, _, null_pooled = StableDiffusionXLPipeline.from_pretrained(folder).encode_prompt(PROMPTS)
    assert null_hidden.abs().max() > 0.1
    torch.testing.assert_close(text.hidden_BLD, null_hidden, **EXACT)
    torch.testing.assert_close(text.pooled_BP, null_pooled, **EXACT)


@pytest.mark.parametrize("content", [None, {"_class_name": "StableDiffusionXLPipeline"}])
def test_the_empty_prompt_is_zeros_where_nothing_is_said_as_in_diffusers(folder, content):
    (folder / "model_index.json").unlink()
    if content is not None:
        (folder / "model_index.json").write_text(json.dumps(content))
    assert not load_text_encoder(folder).encode([""]).hidden_BLD.any()


def test_the_sizes_are_the_pipelines_and_stay_exact_in_half_precision(sdxl, pipeline):
    text = load_text_encoder(sdxl).encode(PROMPTS).to(torch.bfloat16)
    made = text.conditions((854, 1022))["added_cond_kwargs"]
    assert text.hidden_BLD.dtype == made["text_embeds"].dtype == torch.bfloat16
    size, start = (854, 1022), (0, 0)
    expected = pipeline._get_add_time_ids(size, start, size, torch.float32, text_encoder_projection_dim=20)
    assert torch.equal(made["time_ids"].float(), expected.expand(2, -1))


def test_a_text_of_one_encoder_has_no_other_conditions():
    assert Text(torch.zeros(1, 2, 3)).conditions((8, 8)) == {}


def test_at_init_every_nth_frame_is_what_the_pipelines_unet_makes_of_it(sdxl, pipeline, rng):
    backbone = load_backbone(sdxl)
    stunet = inflate(backbone.unet).eval()
    video, timestep = torch.randn(2, 4, 6, 8, 8, generator=rng), torch.tensor([10, 700])
    text = backbone.text_encoder.encode(PROMPTS)
    hidden, _, pooled, _ = pipeline.encode_prompt(PROMPTS)
    sizes = pipeline._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, text_encoder_projection_dim=20)
    added = {"text_embeds": pooled, "time_ids": sizes.repeat(2, 1)}
    with torch.no_grad():
        made = stunet(video, timestep, text.hidden_BLD, **text.conditions((16, 16)))
        for frame in range(0, 6, stunet.temporal_factor):
            expected = pipeline.unet(video[:, :, frame], timestep, hidden, added_cond_kwargs=added).sample
            torch.testing.assert_close(made[:, :, frame], expected, atol=1e-5, rtol=0)
    assert stunet.temporal_factor == 2


def test_guidance_and_windows_give_the_unet_the_embedding_that_belongs_to_each_text(rng):
    """A model that answers with its pooled embedding: without text it is the null's, whatever the windows."""

    def told(video, timestep, text, added_cond_kwargs):
        pooled, sizes = added_cond_kwargs["text_embeds"], added_cond_kwargs["time_ids"]
        assert len(video) == len(text) == len(pooled) == len(sizes)
        assert torch.equal(text[:, 0, 0], pooled[:, 0])
        assert sizes.unique().tolist() == [0, 16, 32]
        return pooled[:, :, None, None, None].expand(-1, *video.shape[1:])

    values = torch.tensor([[1.0], [2.0]])
    for nulls in (torch.tensor([[0.5]]), torch.tensor([[0.5], [-1.0]])):
        prompts = Prompts.of(Text(values[:, None], values), Text(nulls[:, None], nulls), (16, 32))
        video, timestep = torch.zeros(2, 1, 10, 2, 2), torch.zeros(2)
        made = windowed(guided(told, SamplerConfig(guidance_scale=3.0)), 4, 2)(video, timestep, prompts)
        expected = nulls + 3 * (values - nulls)
        torch.testing.assert_close(made, expected[:, :, None, None, None].expand_as(made))
        plain = guided(told, SamplerConfig(guidance_scale=1.0))(video, timestep, prompts)
        torch.testing.assert_close(plain, values[:, :, None, None, None].expand_as(plain))


@pytest.mark.parametrize("number", ["", "_2"])
def test_a_missing_tokenizer_is_refused_by_name(folder, number):
    shutil.rmtree(folder / f"tokenizer{number}")
    with pytest.raises(TextError, match=f"{folder}/tokenizer{number}: the tokenizer of text_encoder{number} is expec"):
        load_backbone(folder)


def test_a_second_text_encoder_of_another_kind_or_without_its_config_is_refused_by_name(folder):
    (folder / "text_encoder_2" / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(
        TextError, match=r"text_encoder_2/config\.json: model_type clip_text_model expected, given 't5'"
    ):
        load_backbone(folder)
    (folder / "text_encoder_2" / "config.json").unlink()
    with pytest.raises(TextError, match=r"text_encoder_2: a transformers model is expected, config\.json is missing"):
        load_backbone(folder)


def test_two_text_encoders_are_refused_where_the_unet_takes_one_and_one_where_it_takes_two(folder):
    unet = folder / "unet" / "config.json"
    config = json.loads(unet.read_text())
    unet.write_text(json.dumps({**config, "addition_embed_type": None}))
    with pytest.raises(BackboneError, match=f"{folder}: .* given None, and text_encoder_2 is there"):
        load_backbone(folder)
    unet.write_text(json.dumps(config))
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(BackboneError, match="given 'text_time', and text_encoder_2 is missing"):
        load_backbone(folder)


def test_all_that_is_loaded_of_a_folder_is_fetched_of_a_repository(sdxl):
    files = {str(path.relative_to(sdxl)) for path in sdxl.rglob("*") if path.is_file()}
    assert {"text_encoder_2/model.safetensors", "tokenizer_2/merges.txt"} <= files
    assert set(filter_repo_objects(files, allow_patterns=list(NEEDED_FILES))) == files
