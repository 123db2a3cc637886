"""The study folder: what raters see, what stays secret, and what the answers will be held against.

Public: study.yaml, prompts.csv, trials.csv, media/, site/, platforms/. Secret, never uploaded: key.csv, secret.key.
The same seed, videos and prompts give the same bytes.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.evaluation.clips import find_clips
from pipelines.evaluation.config import ExportStudyConfig, Question
from pipelines.evaluation.media import common_format, degrade, encode_alike, normalise, num_frames, probe
from pipelines.evaluation.page import fits, page_version, render_page
from pipelines.evaluation.pairs import Pair, make_pairs
from pipelines.evaluation.platforms import RESULTS_HEAD, PublicTrial, write_mturk
from pipelines.evaluation.prompts import Prompt, prompt_set_id, read_prompts, to_csv
from pipelines.evaluation.secrecy import Secret
from pipelines.evaluation.trials import Media, Trial, design_trials
from pipelines.progress import track
from pipelines.storage import sha256_file, write_whole
from pipelines.video_file import read_video

QUESTIONS: Mapping[Question, str] = {
    "align": "Which video better matches the text prompt?",
    "quality": "Which video has better quality and motion?",
}
"""What raters are asked."""
_TRIAL_COLUMNS = "block_id slot trial_id task prompt image left right duration_s questions"
TRIAL_COLUMNS = tuple(_TRIAL_COLUMNS.split())
"""Of trials.csv, public."""
_KEY_COLUMNS = (
    "trial_id pair_id kind prompt_id baseline left_model right_model expected_align expected_quality repeat_of"
)
KEY_COLUMNS = tuple(_KEY_COLUMNS.split())
"""Of key.csv, secret."""
SUMS = "SHA256SUMS"
SECRET_KEY = "secret.key"


class StudyError(ValueError):
    """A study that cannot be written or used; the message names the folder or file."""


@dataclass(frozen=True)
class Study:
    """A study before it is written."""

    study_id: str
    config: ExportStudyConfig
    prompts: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    trials: tuple[Trial, ...]
    secret: Secret

    @property
    def questions(self) -> dict[str, str]:
        """Question to its wording."""
        return {name: QUESTIONS[name] for name in self.config.questions}

    def media_name(self, media: Media) -> str:
        """Public file name of a clip."""
        return f"{self.secret.name('media', media.key)}.mp4"


@dataclass(frozen=True)
class Written:
    """What an export came to."""

    study_id: str
    folder: Path
    num_pairs: int
    num_blocks: int
    num_trials: int
    is_new: bool
    """False where the very same study was there already."""


def plan_study(config: ExportStudyConfig, secret: Secret) -> Study:
    """Pair the videos up and lay out the trials.

    Raises:
        ClipError, PairError, PromptError: Videos or prompts that do not fit together.
    """
    prompts = read_prompts(config.prompts)
    baselines = {name: find_clips(folder) for name, folder in config.baselines.items()}
    pairs = make_pairs(prompts, find_clips(config.ours), baselines)
    trials = design_trials(pairs, config.questions, config.policy.raters_per_pair, secret)
    study_id = config.study_id or f"s{secret.name('study', prompt_set_id(prompts))[:11]}"
    return Study(study_id, config, tuple(prompts), tuple(pairs), tuple(trials), secret)


def export_study(config: ExportStudyConfig, secret: Secret) -> Written:
    """Write the study whole: aside, then renamed.

    Raises:
        StudyError: The folder holds something else; a study is never overwritten.
        ClipError, PairError, PromptError, VideoError: Videos or prompts that cannot be used.
    """
    study = plan_study(config, secret)
    out = Path(config.out)
    if out.exists() and not (out / SUMS).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(f"out {out}: a new folder, an empty one or a study is expected")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        _write(study, aside)
        is_new = not (out / SUMS).is_file()
        if is_new:
            aside.chmod(0o755)
            aside.replace(out)
        elif (out / SUMS).read_bytes() != (aside / SUMS).read_bytes():
            raise StudyError(
                f"out {out}: holds another study, which stays as it is; name a new folder or remove this one"
            )
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    blocks = {trial.block_id for trial in study.trials}
    return Written(study.study_id, out, len(study.pairs), len(blocks), len(study.trials), is_new)


def _write(study: Study, folder: Path) -> None:
    durations = _write_media(study, folder / "media")
    public = [_public(study, trial, durations) for trial in study.trials]
    write_whole(folder / "prompts.csv", to_csv(Prompt._fields, (prompt._asdict() for prompt in study.prompts)))
    rows = [
        {
            **row,
            "trial_id": row["id"],
            "block_id": trial.block_id,
            "slot": trial.slot,
            "questions": "|".join(study.questions),
        }
        for trial, row in zip(study.trials, public, strict=True)
    ]
    write_whole(folder / "trials.csv", to_csv(TRIAL_COLUMNS, rows))
    write_whole(folder / "key.csv", to_csv(KEY_COLUMNS, (_key(trial) for trial in study.trials)))
    blocks: dict[str, list[PublicTrial]] = {}
    for trial, row in zip(study.trials, public, strict=True):
        blocks.setdefault(trial.block_id, []).append(row)
    _write_site(study, blocks, folder)
    write_whole(folder / "study.yaml", _frozen(study, len(blocks)))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    write_whole(folder / SUMS, sums.encode())
    write_whole(folder / SECRET_KEY, f"{study.secret.key.hex()}\n".encode())


def _write_site(study: Study, blocks: Mapping[str, Sequence[PublicTrial]], folder: Path) -> None:
    facts = {"study_id": study.study_id, "page_version": page_version(), "media_base": study.config.media_base}
    for block_id, trials in blocks.items():
        block = {**facts, "block_id": block_id, "trials": trials}
        text = json.dumps(block, ensure_ascii=False, indent=1)
        write_whole(folder / "site" / "blocks" / f"{block_id}.json", text.encode())
    head = {
        "mode": "local",
        **facts,
        "questions": study.questions,
        "results_head": RESULTS_HEAD,
        "blocks": list(blocks),
    }
    # A small study opens by a double click: the page then holds its blocks, for a file:// page may read no other file.
    whole = {**head, "embedded": blocks}
    write_whole(folder / "site" / "index.html", render_page(whole if fits(whole) else head))
    write_mturk(folder / "platforms" / "mturk", facts, study.questions, blocks)


def _write_media(study: Study, folder: Path) -> dict[str, float]:
    """Make every clip once; returns the duration of each by its media key, in seconds."""
    facts = {path: probe(path) for path in dict.fromkeys(p for pair in study.pairs for p in (pair.ours, pair.other))}
    wanted = {key: getattr(study.config, key) for key in ("width_px", "height_px", "fps")}
    fmt = common_format(facts.values(), wanted)
    durations: dict[str, float] = {}
    shown = {(trial.left.media, trial.right.media) for trial in study.trials if trial.kind != "repeat"}
    couples = {frozenset(couple): sorted(couple, key=lambda media: media.key) for couple in shown}
    for first, second in track(sorted(couples.values(), key=lambda couple: couple[0].key), "encoding the clips"):
        count = num_frames(min(facts[first.path].duration_s, facts[second.path].duration_s), fmt)
        frames = [normalise(read_video(media.path), count, fmt) for media in (first, second)]
        for place, media in enumerate((first, second)):
            if media.is_degraded:
                frames[place] = degrade(frames[place], study.secret.order("degrade", media.key))
        for media, mp4 in zip((first, second), encode_alike(frames[0], frames[1], fmt.fps), strict=True):
            write_whole(folder / study.media_name(media), mp4)
            durations[media.key] = float(count / fmt.fps)
    return durations


def _public(study: Study, trial: Trial, durations: Mapping[str, float]) -> dict[str, object]:
    return {
        "id": trial.trial_id,
        "task": study.config.task,
        "prompt": trial.prompt.text,
        "image": "",
        "left": study.media_name(trial.left.media),
        "right": study.media_name(trial.right.media),
        "duration_s": round(durations[trial.left.media.key], 3),
        "questions": list(study.questions),
    }


def _key(trial: Trial) -> dict[str, object]:
    return {
        "trial_id": trial.trial_id,
        "pair_id": trial.pair_id,
        "kind": trial.kind,
        "prompt_id": trial.prompt.prompt_id,
        "baseline": trial.baseline,
        "left_model": trial.left.model,
        "right_model": trial.right.model,
        "expected_align": trial.expected.get("align", ""),
        "expected_quality": trial.expected.get("quality", ""),
        "repeat_of": trial.repeat_of,
    }


def _frozen(study: Study, num_blocks: int) -> bytes:
    content = {
        "study_id": study.study_id,
        "page_version": page_version(),
        "task": study.config.task,
        "questions": study.questions,
        "prompt_set_sha256": prompt_set_id(study.prompts),
        "num_prompts": len(study.prompts),
        "num_blocks": num_blocks,
        "num_trials": len(study.trials),
        "policy": study.config.policy.model_dump(mode="json"),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()
