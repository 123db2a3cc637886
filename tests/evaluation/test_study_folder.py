"""What an export writes: the layout, the blindness, and that it is never overwritten."""

import base64
import csv
import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import pytest
import yaml

from pipelines.evaluation.media import common_format, encode_alike, num_frames, probe
from pipelines.evaluation.page import MAX_PAGE_BYTES, template
from pipelines.evaluation.pairs import PairError
from pipelines.evaluation.platforms import INPUT_COLUMNS, MAX_QUESTION_BYTES
from pipelines.evaluation.study import StudyError
from pipelines.storage import sha256_file
from pipelines.tracking import TrackingConfig
from pipelines.video_file import read_video
from tests.evaluation.conftest import FORMULA_PROMPT, HTML_PROMPT, MakeStudy, moving_square, rows_of

SECRET = {"key.csv", "secret.key"}


def public_files(study: Path) -> list[Path]:
    return [path for path in study.rglob("*") if path.is_file() and path.name not in SECRET]


def test_the_folder_has_the_layout_that_tools_read(study: Path) -> None:
    assert sorted(path.name for path in study.iterdir()) == sorted(
        ["study.yaml", "prompts.csv", "trials.csv", "key.csv", "secret.key", "media", "site", "platforms", "SHA256SUMS"]
    )
    assert list(rows_of(study / "trials.csv")[0]) == (
        ["block_id", "slot", "trial_id", "task", "prompt", "image", "left", "right", "duration_s", "questions"]
    )
    assert list(rows_of(study / "key.csv")[0]) == [
        "trial_id",
        "pair_id",
        "kind",
        "prompt_id",
        "baseline",
        "left_model",
        "right_model",
        "expected_align",
        "expected_quality",
        "repeat_of",
    ]
    blocks = {row["block_id"] for row in rows_of(study / "trials.csv")}
    assert {path.stem for path in (study / "site" / "blocks").glob("*.json")} == blocks


def test_the_sums_are_those_of_every_file_but_the_secret_ones_own(study: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (study / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file()}
    assert set(sums) == files - {"SHA256SUMS", "secret.key"}
    assert all(sha256_file(study / name) == digest for name, digest in sums.items())


def test_nothing_public_names_a_model_or_a_side(study: Path) -> None:
    names = re.compile(rb"lumiere|zeroscope|pika|ours|baseline|unrelated|degraded|expected_", re.IGNORECASE)
    for path in public_files(study):
        found = names.search(path.read_bytes()) or names.search(path.name.encode())
        assert found is None, f"{path.relative_to(study)}: {found}"


def test_media_names_are_16_hex_digits_and_say_nothing_about_which_clip_comes_twice(study: Path) -> None:
    media = {path.name for path in (study / "media").iterdir()}
    assert all(re.fullmatch(r"[0-9a-f]{16}\.mp4", name) for name in media)
    shown = {name for row in rows_of(study / "trials.csv") for name in (row["left"], row["right"])}
    assert shown == media
    # Our clip is in a pair with every baseline: were its name the same in each, it would give ours away.
    pairs = {(row["trial_id"]): row["pair_id"] for row in rows_of(study / "key.csv")}
    in_pairs: dict[str, set[str]] = {}
    for row in rows_of(study / "trials.csv"):
        for name in (row["left"], row["right"]):
            in_pairs.setdefault(name, set()).add(pairs[row["trial_id"]])
    assert all(len(own) == 1 for own in in_pairs.values())


def test_all_clips_are_alike_and_both_of_a_pair_have_the_shorter_ones_duration(study: Path) -> None:
    kinds: set[tuple[object, ...]] = set()
    for path in (study / "media").iterdir():
        with av.open(str(path)) as container:
            [stream] = container.streams
            kinds.add((stream.codec_context.name, stream.width, stream.height, stream.pix_fmt, stream.average_rate))
            assert set(container.metadata) <= {"major_brand", "minor_version", "compatible_brands"}
        assert len(read_video(path).frames_THWC) == 4
    assert kinds == {("h264", 48, 48, "yuv420p", Fraction(8))}


def test_file_sizes_within_a_pair_differ_at_most_threefold_and_padding_changes_no_frame() -> None:
    rich, plain = moving_square(1, 8, 128), moving_square(2, 8, 128)
    rich[:] = (rich.astype(int) * 7919 + 31) % 251  # hard to compress
    plain[:] = 9
    first, second = encode_alike(rich, plain, Fraction(8))
    assert len(first) <= 3 * len(second)
    assert abs(read_video(second).frames_THWC.astype(int) - 9).max() <= 3


def test_durations_are_cut_by_exact_arithmetic(systems: Path) -> None:
    facts = [probe(systems / name / "p00.mp4") for name in ("lumiere", "pika")]
    fmt = common_format(facts, {"width_px": None, "height_px": 32, "fps": 29.97})
    assert (fmt.width_px, fmt.height_px, fmt.fps) == (48, 32, Fraction(2997, 100))
    assert num_frames(facts[0].duration_s, fmt) == 14  # half a second


def test_the_page_is_under_60000_bytes_and_asks_nothing_of_another_server(study: Path) -> None:
    for path in (study / "site" / "index.html", study / "platforms" / "mturk" / "layout.html"):
        page = path.read_bytes()
        assert len(page) < MAX_PAGE_BYTES
        assert not re.search(rb"""(src|href)=["']?(https?:|//)|@import|url\(""", page.replace(b'href="data:,"', b""))
    assert len(template()) < MAX_PAGE_BYTES / 2, "half of the page is left for the trials of a small study"


def test_a_large_study_keeps_its_trials_out_of_the_page(make_study: MakeStudy) -> None:
    study = make_study(policy={"raters_per_pair": 20})
    page = (study / "site" / "index.html").read_bytes()
    assert len(page) < MAX_PAGE_BYTES
    assert b'"embedded"' not in page


def test_mturk_input_has_a_block_a_row_and_its_trials_survive(study: Path) -> None:
    rows = rows_of(study / "platforms" / "mturk" / "input.csv")
    assert tuple(rows[0]) == INPUT_COLUMNS
    for row in rows:
        trials = json.loads(base64.urlsafe_b64decode(row["trials_b64"]))
        block = json.loads((study / "site" / "blocks" / f"{row['block_id']}.json").read_text())
        assert trials == block["trials"]
        assert len(trials) == int(row["n_trials"])
    assert HTML_PROMPT in {t["prompt"] for row in rows for t in json.loads(base64.urlsafe_b64decode(row["trials_b64"]))}


def test_the_layouts_only_variables_are_the_columns_of_the_input(study: Path) -> None:
    layout = (study / "platforms" / "mturk" / "layout.html").read_text()
    assert sorted(re.findall(r"\$\{(.*?)\}", layout)) == sorted(INPUT_COLUMNS)


def test_the_html_question_is_well_formed_and_small_enough(study: Path) -> None:
    path = study / "platforms" / "mturk" / "question.xml"
    assert path.stat().st_size <= MAX_QUESTION_BYTES
    content = ElementTree.fromstring(path.read_text())[0].text
    assert content == (study / "platforms" / "mturk" / "layout.html").read_text()


def test_prompts_enter_the_page_as_text_alone(study: Path) -> None:
    page = (study / "site" / "index.html").read_text()
    assert "<img src=x" not in page
    assert "\\u003cimg src=x" in page
    assert "innerHTML" not in page
    assert "insertAdjacentHTML" not in page


def test_a_prompt_that_a_spreadsheet_would_run_is_prefixed(study: Path) -> None:
    texts = {row["prompt_id"]: row["text"] for row in rows_of(study / "prompts.csv")}
    assert texts["p01"] == f"'{FORMULA_PROMPT}"
    with (study / "trials.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


def test_the_same_seed_gives_the_same_bytes_and_no_seed_in_sight(make_study: MakeStudy, study: Path) -> None:
    again = make_study()
    assert (again / "SHA256SUMS").read_bytes() == (study / "SHA256SUMS").read_bytes()
    assert (make_study(seed=1) / "SHA256SUMS").read_bytes() != (study / "SHA256SUMS").read_bytes()
    assert "seed" not in (study / "study.yaml").read_text()


def test_a_study_is_never_overwritten_by_another_and_may_be_exported_again(make_study: MakeStudy) -> None:
    study = make_study()
    assert make_study(out=str(study)) == study
    before = (study / "SHA256SUMS").read_bytes()
    with pytest.raises(StudyError, match="holds another study"):
        make_study(out=str(study), seed=5)
    assert (study / "SHA256SUMS").read_bytes() == before
    assert [path.name for path in study.parent.iterdir()] == ["study"]


def test_a_folder_of_something_else_is_left_alone(make_study: MakeStudy, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="a new folder"):
        make_study(out=str(tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_missing_clip_is_told_by_system_and_prompt(make_study: MakeStudy, systems: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "more.csv"
    prompts.write_text((systems / "prompts.csv").read_text() + "p99,one more\n")
    with pytest.raises(PairError, match="ours: p99; zeroscope: p99; pika: p99"):
        make_study(prompts=str(prompts))


def test_study_yaml_freezes_questions_policy_and_analysis(study: Path) -> None:
    frozen = yaml.safe_load((study / "study.yaml").read_text())
    assert list(frozen["questions"]) == ["align", "quality"]
    assert frozen["policy"]["exclusions"]["max_wrong_catches"] == 1
    assert "cluster-robust" in frozen["policy"]["primary_analysis"]


@pytest.mark.slow
def test_the_job_exports_and_records(systems: Path, tracking: TrackingConfig, tmp_path: Path, root: Path) -> None:
    words = [f"ours={systems}/lumiere", f"baselines.pika={systems}/pika", f"prompts={systems}/prompts.csv"]
    words += [f"out={tmp_path}/study", f"tracking.uri={tracking.uri}", f"tracking.artifacts={tracking.artifacts}"]
    command = [sys.executable, "jobs/export_study.py", "--config", "jobs/configs/study.yaml", *words]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "pairs 12" in result.stdout
    assert (tmp_path / "study" / "site" / "index.html").is_file()
