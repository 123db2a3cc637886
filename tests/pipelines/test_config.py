from pathlib import Path

import pytest
from pydantic import Field

from pipelines.config import Config, ConfigError, config_hash, load_config, to_yaml


class Still(Config):
    minimum: float = Field(0.5, ge=0)


class Example(Config):
    steps: int
    lr: float = 1e-4
    folder: Path = Path("out")
    sizes_px: tuple[int, ...] = (32,)
    still: Still = Still()
    name: str | None = None


def test_overrides_win_over_the_file_and_keep_their_types(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("steps: 10\nlr: 1e-3\nname: a\n")
    config = load_config(Example, file, ["steps=20", "sizes_px=[1,2]", "still.minimum=2", "name=null", "folder=a/b"])
    assert config == Example(
        steps=20, lr=1e-3, sizes_px=(1, 2), still=Still(minimum=2.0), name=None, folder=Path("a/b")
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["steps=1", "stepz=2"], "stepz: unknown key; known here: steps, lr"),
        (["steps=1", "still.maximum=2"], "still.maximum: unknown key; known here: minimum"),
        (["steps=1", "still.minimum=-1"], "still.minimum: Input should be greater than or equal to 0; given: -1"),
        (["steps=many"], "steps: Input should be a valid integer; given: 'many'"),
        (["steps=1.5"], "steps: Input should be a valid integer"),
        (["steps=true"], "steps: Input should be a valid integer; given: True"),
        (["lr=1e-4"], "steps: required, but not given"),
        (["steps"], "argument 'steps': `key=value` is expected"),
        (["steps=1", "name=${nowhere}"], "nowhere"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Example, None, overrides)
    assert expected in str(caught.value)


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent.yaml: no such file"):
        load_config(Example, tmp_path / "absent.yaml", [])
    (tmp_path / "broken.yaml").write_text("steps: [1\n")
    with pytest.raises(ConfigError, match="broken.yaml: not valid YAML"):
        load_config(Example, tmp_path / "broken.yaml", [])
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"list.yaml: a mapping .* expected"):
        load_config(Example, tmp_path / "list.yaml", [])


def test_the_resolved_yaml_reads_back_as_the_same_configuration(tmp_path: Path) -> None:
    config = Example(steps=3, sizes_px=(8, 9))
    file = tmp_path / "resolved.yaml"
    file.write_text(to_yaml(config))
    assert load_config(Example, file, []) == config


def test_the_hash_changes_with_any_value_and_only_then() -> None:
    assert config_hash(Example(steps=3)) == config_hash(Example(steps=3))
    assert config_hash(Example(steps=3)) != config_hash(Example(steps=3, still=Still(minimum=0.6)))
