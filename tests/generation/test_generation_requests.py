"""Prompt files become requests; what cannot be used is told by file and row."""

import dataclasses
import json
from typing import get_args

import pytest

from pipelines.config import ConfigError, load_config
from pipelines.generation.config import GenerateConfig, SamplerSettings, TaskName
from pipelines.generation.requests import TASKS, RequestError, kind, read_requests
from stunet.sampler import SamplerConfig


def config(*overrides: str) -> GenerateConfig:
    return load_config(GenerateConfig, None, ["out=o", *overrides])


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return f"requests={path}"


def test_a_csv_file_gives_ids_and_seeds_where_the_row_has_none(tmp_path):
    text = '\ufeffprompt_id,prompt,seed,colour\nfirst,"a circle, red",,red\n,a star,77,\nthird, a square ,,\n'
    requests = read_requests(config(written(tmp_path, "p.csv", text), "seed=10"))
    told = [(request["prompt_id"], request["task"], request["prompt"], request["seed"]) for request in requests]
    assert told == [
        ("first", "text_to_video", "a circle, red", 10),
        ("0001", "text_to_video", "a star", 77),
        ("third", "text_to_video", "a square", 12),
    ]
    assert {request[name] for request in requests for name in ("image", "video", "mask", "style", "alpha")} == {None}


def test_a_row_names_its_task_and_files_beside_the_requests_and_the_configuration_fills_the_rest(tmp_path):
    for name in ("red.png", "clip.mp4", "lora.safetensors"):
        (tmp_path / name).write_bytes(b"-")
    text = "prompt,task,image,video,mask,style,alpha,strength\n"
    text += 'a,image_to_video,red.png,,,,,\nb,inpainting,,clip.mp4,"1,2,3,4",,,\n'
    text += "c,stylisation,,clip.mp4,,lora.safetensors,,0.5\n"
    image, fill, style = read_requests(config(written(tmp_path, "p.csv", text), "sampler.steps=2"))
    assert (image["task"], image["image"]) == ("image_to_video", str(tmp_path / "red.png"))
    assert (fill["video"], fill["mask"]) == (str(tmp_path / "clip.mp4"), "1,2,3,4")
    assert (style["style"], style["alpha"], style["strength"]) == (str(tmp_path / "lora.safetensors"), 0.7, 0.5)
    one = read_requests(config("prompt=a", "task=cinemagraph", f"image={tmp_path}/red.png", "mask='0,0,8,8'"))[0]
    assert (one["task"], one["mask"]) == ("cinemagraph", "0,0,8,8")


def test_requests_of_one_kind_and_style_can_be_made_together(tmp_path):
    for name in ("red.png", "clip.mp4", "lora.safetensors"):
        (tmp_path / name).write_bytes(b"-")
    rows = [
        {"prompt": "a"},
        {"prompt": "b", "task": "image_to_video", "image": "red.png"},
        {"prompt": "c", "style": "lora.safetensors", "alpha": 0.5},
        {"prompt": "d", "style": "lora.safetensors", "alpha": 1},
        {"prompt": "e", "task": "stylisation", "video": "clip.mp4"},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    kinds = [kind(request) for request in read_requests(config(written(tmp_path, "p.jsonl", text)))]
    assert kinds[0] == kinds[1]
    assert len(set(kinds)) == 4


def test_a_jsonl_file_and_a_single_prompt_work_too(tmp_path):
    text = '{"prompt": "a circle", "prompt_id": "x", "seed": 3}\n\n{"prompt": "a star"}\n'
    assert [r["seed"] for r in read_requests(config(written(tmp_path, "p.jsonl", text)))] == [3, 1]
    assert read_requests(config('prompt="a circle"', "seed=4"))[0]["seed"] == 4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "prompt_id,prompt\na,x\nA,y\n", r"p\.csv:3: prompt_id 'A' was given in row 2 already"),
        ("p.csv", "prompt_id,prompt\na,\n", r"p\.csv:2: a `prompt` is expected, given None"),
        ("p.csv", "text\nx\n", r"p\.csv:2: a `prompt` is expected, given None"),
        ("p.csv", "prompt_id,prompt\n../a,x\n", r"p\.csv:2: prompt_id: letters, digits and \._- expected"),
        ("p.csv", "prompt,seed\nx,-1\n", r"p\.csv:2: seed: a whole number from 0 .* given '-1'"),
        ("p.csv", "prompt,task\nx,dance\n", r"p\.csv:2: task: one of text_to_video, .* given 'dance'"),
        ("p.csv", "prompt,task\nx,image_to_video\n", r"p\.csv:2: image_to_video expects `image`, none is given"),
        ("p.csv", 'prompt,mask\nx,"1,1,2,2"\n', r"p\.csv:2: text_to_video takes no `mask`, given '1,1,2,2'"),
        ("p.csv", "prompt,image\nx,no.png\n", r"p\.csv:2: image .*no\.png: no such file"),
        ("p.csv", "prompt,style\nx,no\n", r"p\.csv:2: style .*no: no such file"),
        ("p.csv", "prompt,alpha\nx,0.5\n", r"p\.csv:2: alpha: a `style` is expected with it"),
        ("p.csv", "prompt,style,alpha\nx,.,1.5\n", r"p\.csv:2: alpha: a number from 0 to 1 expected, given '1\.5'"),
        ("p.csv", "prompt,strength\nx,much\n", r"p\.csv:2: strength: a number from 0 to 1 expected, given 'much'"),
        ("p.csv", "prompt\n", r"p\.csv: at least one row is expected"),
        ("p.jsonl", '{"prompt": "x"}\n[1]\n', r"p\.jsonl:2: a JSON object is expected, given '\[1\]'"),
        ("p.jsonl", "{\n", r"p\.jsonl:1: not JSON"),
        ("p.txt", "x\n", r"p\.txt: a \.csv or \.jsonl file is expected"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_by_file_and_line(tmp_path, name, text, message):
    with pytest.raises(RequestError, match=message):
        read_requests(config(written(tmp_path, name, text)))


def test_a_missing_file_is_told_by_name():
    with pytest.raises(RequestError, match=r"requests nowhere\.csv: no such file"):
        read_requests(config("requests=nowhere.csv"))


@pytest.mark.parametrize("overrides", [(), ("prompt=a", "requests=b.csv")])
def test_exactly_one_of_prompt_and_requests_is_expected(overrides):
    with pytest.raises(ConfigError, match="requests, prompt: one of them is expected, (neither|both) given"):
        config(*overrides)


def test_the_jobs_sampler_keys_are_those_of_the_sampler():
    defaults = {field.name: field.default for field in dataclasses.fields(SamplerConfig)}
    assert {name: field.default for name, field in SamplerSettings.model_fields.items()} == defaults
    with pytest.raises(ConfigError, match=r"sampler: timestep_shift: ddim, ddpm and dpm\+\+ take a shifted grid"):
        config("prompt=a", "sampler.scheduler=unipc", "sampler.timestep_shift=2")


def test_every_task_of_the_configuration_is_one_of_requests():
    assert set(get_args(TaskName)) == set(TASKS)


@pytest.mark.parametrize("overrides", [("then_enlarge=true",), ("task=super_resolution", "video=a.mp4")])
def test_super_resolution_without_an_upscaler_is_refused_at_once(overrides):
    with pytest.raises(ConfigError, match=r"ssr\.backbone: an upscaler is expected"):
        config("prompt=a", *overrides)
    with pytest.raises(ConfigError, match="ssr: overlap: fewer frames than window = 4 expected, given 4"):
        config("prompt=a", "ssr.window=4", "ssr.overlap=4")
