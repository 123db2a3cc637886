"""The report: figures over the catalog, and a page that needs no other file."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pytest

from pipelines.curation.data_card import DataCard, make_card
from pipelines.curation.ledger import NOT_THERE, Failure, Flow, failures, flows
from pipelines.curation.report import Page, render

_COLUMNS = {
    "row_id": pa.string(),
    "uri": pa.string(),
    "caption": pa.string(),
    "verdict": pa.string(),
    "reason": pa.string(),
    "codec": pa.string(),
    "source_width": pa.int32(),
    "source_height": pa.int32(),
    "source_fps": pa.float64(),
    "source_duration_s": pa.float64(),
    "align_score": pa.float64(),
    "num_frames": pa.int32(),
    "fps": pa.float64(),
    "bytes": pa.int64(),
    "shard": pa.string(),
}


def _rows(*rows: dict[str, object]) -> pa.Table:
    usual = {
        "verdict": "kept",
        "reason": "",
        "caption": "A dog runs",
        "codec": "h264",
        "source_width": 640,
        "source_height": 360,
        "source_fps": 25.0,
        "source_duration_s": 6.0,
        "align_score": None,
        "num_frames": 80,
        "fps": 16.0,
        "bytes": 1000,
        "shard": "a.tar",
    }
    filled = [{"row_id": str(i), "uri": f"clips/{i}.mp4", **usual, **row} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=pa.schema(_COLUMNS.items()))


def _table(card: DataCard, title: str) -> dict[str, float]:
    return dict(next(table.lines for table in card.tables if table.title == title))


def test_the_card_sums_up_kept_clips_alone() -> None:
    card = make_card(_rows({}, {"codec": "vp9"}, {"verdict": "still", "codec": "av1"}, {"verdict": "removed"}))
    assert (card.clips, card.kept, card.mp4_bytes, card.shards) == (3, 2, 2000, 1)
    assert card.hours == pytest.approx(2 * 5 / 3600)
    assert _table(card, "codec") == {"h264": 1, "vp9": 1}


def test_the_card_tells_sizes_rates_and_lengths() -> None:
    card = make_card(_rows({}, {"source_width": 1080, "source_height": 1920, "source_fps": 60.0, "caption": "One"}))
    assert _table(card, "shape") == {"landscape": 1, "portrait": 1}
    assert _table(card, "size, short side in pixels") == {"2: 241 to 360": 1, "5: 721 to 1080": 1}
    assert _table(card, "frames per second") == {"2: 20 to 27": 1, "4: 40 and more": 1}
    assert _table(card, "words of a caption")["most"] == 3
    assert card.metrics()["median_seconds_of_the_source"] == 6.0


@pytest.mark.parametrize(
    ("caption", "scripts"),
    [
        ("Ein Hund läuft", {"Latin": 1}),
        ("犬が走る dog", {"Latin": 1, "Han": 1, "Hiragana": 1}),
        ("Собака", {"Cyrillic": 1}),
        ("ᚠᚢᚦ", {"other": 1}),
    ],
)
def test_the_card_counts_the_scripts_of_captions(caption: str, scripts: dict[str, int]) -> None:
    assert _table(make_card(_rows({"caption": caption})), "scripts in captions") == scripts


def test_a_data_set_that_keeps_nothing_has_a_card() -> None:
    card = make_card(_rows({"verdict": "unreadable"}))
    assert (card.clips, card.kept, card.hours, card.tables) == (1, 0, 0, ())


def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    dark = [{"verdict": "too_dark", "reason": f"brightness {level}.5, at least 48"} for level in (3, 12, 40)]
    found = failures(_rows(*dark, {"verdict": "unreadable", "reason": "no such file"}, {}))
    assert found == [
        Failure("too_dark", "brightness #, at least #", 3, "clips/0.mp4", "brightness 3.5, at least 48"),
        Failure("unreadable", "no such file", 1, "clips/3.mp4", "no such file"),
    ]


def test_copies_of_different_clips_are_one_reason() -> None:
    copies = [{"verdict": "duplicate", "reason": f"same bytes and span as clips/{name}.mp4"} for name in "ab"]
    assert [(found.kind, found.clips) for found in failures(_rows(*copies))] == [("same bytes and span as …", 2)]


def test_flows_tell_where_clips_went_between_versions() -> None:
    before = _rows({}, {}, {"verdict": "still"})
    after = _rows({}, {"verdict": "removed"}, {}, {}, {"verdict": "cut"})
    assert set(flows(before, after)) == {
        Flow("kept", "removed", 1),
        Flow("still", "kept", 1),
        Flow(NOT_THERE, "kept", 1),
        Flow(NOT_THERE, "cut", 1),
    }


def _page(found: Sequence[Failure] = (), moved: Sequence[Flow] = ()) -> Page:
    return Page(
        dataset="clips",
        version=3,
        refresh_id="20300101",
        is_first=False,
        facts={"throughput": "12 clips/s"},
        card=make_card(_rows({})),
        flows=list(moved),
        failures=list(found),
        funnel="data:image/png;base64,AAAA",
        histograms="data:image/png;base64,BBBB",
        sheets={"kept": "data:image/jpeg;base64,CCCC"},
    )


def test_the_page_needs_no_other_file() -> None:
    page = render(_page())
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 3
    assert all(source.startswith("data:image/") for source in sources)


def test_the_page_tells_what_is_in_it() -> None:
    page = render(_page([Failure("cut", "cut #", 2, "a.mp4", "cut 20")], [Flow("still", "kept", 5)]))
    for text in ("clips, version 3", "12 clips/s", "cut #", "a.mp4", "still", "1 of 1 clips"):
        assert text in page, text


def test_words_of_strangers_are_escaped() -> None:
    page = render(_page([Failure("unreadable", "x", 1, "<script>alert(1)</script>.mp4", "<img src=x>")]))
    assert "<script>" not in page
    assert "<img src=x>" not in page
