"""A configuration that cannot work is refused by the key's name."""

from fractions import Fraction

import pytest

from pipelines.config import ConfigError, config_hash, load_config
from pipelines.curation.config import Recipe, RefreshConfig

REQUIRED = ("manifest=a.csv", "dataset=d")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("framez=80", "framez: unknown key"),
        ("filters.min_move=1", "filters.min_move: unknown key; known here: min_brightness, min_motion"),
        ("decoder=ffmpeg", "decoder: .*'pyav' or 'decord'"),
        ("size_px=33", "size_px: .*multiple of 2"),
        ("fps=0", "fps: .*greater than 0"),
        ("frames=many", "frames: .*integer"),
        ("align.min_score=2", "align.min_score: .*less than or equal to 1"),
        ("align.pretrained=laion2b", "align.pretrained is given, align.model is null"),
    ],
)
def test_a_wrong_key_or_value_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(RefreshConfig, None, [*REQUIRED, override])


def test_manifest_and_dataset_are_required() -> None:
    with pytest.raises(ConfigError, match="manifest: required, but not given\ndataset: required"):
        load_config(RefreshConfig, None, [])


def test_only_what_decides_about_clips_is_part_of_the_recipe() -> None:
    def recipe_hash(*overrides: str) -> str:
        return config_hash(load_config(RefreshConfig, None, [*REQUIRED, *overrides]).recipe)

    assert recipe_hash("samples_per_shard=7", "clips_per_slice=3", "ray.num_cpus=1", "dataset=e") == recipe_hash()
    for override in ("fps=24", "filters.max_cut=null", "align.model=ViT-B-32", "limits.max_bytes=1000"):
        assert recipe_hash(override) != recipe_hash()


def test_a_rate_is_the_fraction_that_was_written() -> None:
    assert Recipe(fps=29.97).rate == Fraction(2997, 100)
