"""Prompt files as their owners ship them."""

import json
from pathlib import Path

import pytest

from pipelines.evaluation.prompts import Prompt, PromptError, prompt_set_id, read_prompts

TEXTS = ["a crab, sideways", 'the word "tide" in sand']


def test_plain_text_csv_jsonl_and_vbenchs_list_give_the_same_prompts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{TEXTS[0]}\n\n{TEXTS[1]}\n")
    (tmp_path / "a.csv").write_text('text,split\n"a crab, sideways",\n"the word ""tide"" in sand",\n')
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS))
    (tmp_path / "a.json").write_text(json.dumps([{"prompt_en": text, "dimension": ["colour"]} for text in TEXTS]))
    expected = [Prompt("p001", TEXTS[0]), Prompt("p002", TEXTS[1])]
    for name in ("a.txt", "a.csv", "a.jsonl", "a.json"):
        assert read_prompts(tmp_path / name) == expected, name
    assert prompt_set_id(expected) != prompt_set_id(expected[::-1])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "prompt_id,text\nx,one\nx,two\n", "given twice: x"),
        ("a.csv", "prompt_id,text\nx,one\ny,\n", r"a.csv:3: no text"),
        ("a.csv", "caption\none\n", r"a.csv:2: no text; one of the columns text, prompt"),
        ("a.jsonl", "[1]\n", "an object a row"),
        ("a.jsonl", "{\n", "a.jsonl: Expecting"),
        ("a.txt", "\n", "no prompt in it"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_by_name_and_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PromptError, match=message):
        read_prompts(tmp_path / name)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="nowhere.csv: no such file"):
        read_prompts(tmp_path / "nowhere.csv")
