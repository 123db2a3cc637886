"""A dry run tells what would be done and how long that takes, from a refresh that was long enough to know."""

import json
from pathlib import Path

import pytest

from pipelines.curation.config import RefreshConfig
from pipelines.curation.preview import preview


@pytest.fixture
def config(tmp_path: Path) -> RefreshConfig:
    manifest = tmp_path / "m.csv"
    manifest.write_text("video,caption,etag\n" + "".join(f"{number}.mp4,x,1\n" for number in range(1000)))
    (tmp_path / "down.txt").write_text("7.mp4\nelsewhere/7.mp4\n")
    return RefreshConfig(manifest=str(manifest), dataset=str(tmp_path / "data"), takedown=str(tmp_path / "down.txt"))


def record(config: RefreshConfig, name: str, decoded: int, decoding_s: float) -> None:
    folder = Path(config.dataset) / "refreshes"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"refresh_id": name, "decoded": decoded, "decoding_s": decoding_s}
    (folder / f"{name}.json").write_text(json.dumps(told))


def test_the_speed_is_that_of_the_newest_refresh_which_decoded_enough(config: RefreshConfig) -> None:
    assert "no earlier refresh tells how long that takes" in preview(config)
    record(config, "1", 3, 10.0)
    assert "of refresh 1, which decoded 3" in preview(config)
    record(config, "2", 500, 50.0)
    record(config, "3", 1, 5.0)
    record(config, "4", 0, 0.0)
    assert "999  about 100 s at the 10.0 clips/s of refresh 2, which decoded 500" in preview(config)


def test_lines_of_the_takedown_list_that_match_nothing_are_told(config: RefreshConfig) -> None:
    told = preview(config)
    assert told.endswith("takedown list: no clip for line 2: elsewhere/7.mp4\n")
    assert "cannot be seen" in told
