"""Prompt files become requests; what cannot be used is told by file and row."""

import dataclasses

import pytest

from pipelines.config import ConfigError, load_config
from pipelines.generation.config import GenerateConfig, SamplerSettings
from pipelines.generation.requests import RequestError, read_requests
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
    assert requests == [
        {"prompt_id": "first", "task": "text_to_video", "prompt": "a circle, red", "seed": 10},
        {"prompt_id": "0001", "task": "text_to_video", "prompt": "a star", "seed": 77},
        {"prompt_id": "third", "task": "text_to_video", "prompt": "a square", "seed": 12},
    ]


def test_a_jsonl_file_and_a_single_prompt_work_too(tmp_path):
    text = '{"prompt": "a circle", "prompt_id": "x", "seed": 3}\n\n{"prompt": "a star"}\n'
    assert [r["seed"] for r in read_requests(config(written(tmp_path, "p.jsonl", text)))] == [3, 1]
    assert read_requests(config('prompt="a circle"', "seed=4"))[0]["seed"] == 4


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "prompt_id,prompt\na,x\nA,y\n", r"p\.csv:3: prompt_id 'A' was given in row 2 already"),
        ("p.csv", "prompt_id,prompt\na,\n", r"p\.csv:2: a `prompt` is expected, given ''"),
        ("p.csv", "text\nx\n", r"p\.csv:2: a `prompt` is expected, given None"),
        ("p.csv", "prompt_id,prompt\n../a,x\n", r"p\.csv:2: prompt_id: letters, digits and \._- expected"),
        ("p.csv", "prompt,seed\nx,-1\n", r"p\.csv:2: seed: a whole number from 0 .* given '-1'"),
        ("p.csv", "prompt,task\nx,dance\n", r"p\.csv:2: task: one of text_to_video expected, given 'dance'"),
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
    with pytest.raises(ConfigError, match=r"sampler: timestep_shift: only dpm\+\+ takes a shifted grid"):
        config("prompt=a", "sampler.scheduler=ddim", "sampler.timestep_shift=2")
