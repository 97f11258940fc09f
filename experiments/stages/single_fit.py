"""One fusion fitted on a data set and saved, as the command does it: checked first, resumed, cross-validated."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stemfuse.blending import BaseFusion, FusionError, leaks, make_fusion
from stemfuse.blending.search import FEW
from stemfuse.experiments.config import AugmentConfig, FitConfig, TrainingConfig
from stemfuse.experiments.data import DataSet, MixtureRule, open_data
from stemfuse.experiments.errors import ConfigError
from stemfuse.experiments.outputs import check_output, check_store
from stemfuse.experiments.remixes import remixed_tracks
from stemfuse.experiments.stored_separators import StoredSeparator, check_labels, check_new_files, find_separator
from stemfuse.experiments.subsets import check_subsets, is_small
from stemfuse.experiments.training import check_training, execution_of, trains
from stemfuse.experiments.workers import Progress, cores, silent
from stemfuse.separators import StemStore, Sums, Track, listed
from stemfuse.separators.audio.whole_files import clear_remains
from stemfuse.separators.errors import usage_errors

from .fitting import at_one_rate, kept_equal, seen_before, songs_of, songs_seen, with_sums
from .measure import gain_rows, measure, sdr_scores, sdr_table
from .safe_fit import fit_identity, fit_safely, goes_on, kept_folds
from .separate import with_stems

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

UNKNOWN = "what it gains on new songs is not known"

CHECKPOINT_MINUTES = 0.5
"""Most minutes of a training that a killed command loses, when it does not say."""


def fit_fusion(
    name: str,
    options: Mapping[str, Any],
    data: Path,
    store: Path,
    separators: Sequence[str],
    out: Path,
    train: Sequence[str] = ("train",),
    valid: Sequence[str] = ("valid",),
    folds: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    convert: bool = False,
    mixture: MixtureRule = "file",
    sources: Sums | None = None,
    overwrite: bool = False,
    missing: Literal["error", "skip"] = "error",
    augment: AugmentConfig | None = None,
    training: TrainingConfig | None = None,
) -> pd.DataFrame:
    """Fit a fusion on a data set and save it.

    Parameters
    ----------
    name : str
        One of `stemfuse.blending.list_fusions`.
    options : mapping
        Its arguments.
    data : Path
        A data set with references.
    store : Path
        Stem store; missing stems are separated first.
    separators : sequence of str
        See `find_separator`; labels of the weights' inputs.
    out : Path
        The new file: ``.npz`` for constant weights, ``.safetensors`` for networks, ``.json`` without weights.
    train, valid : sequence of str
        Subsets to fit and to validate on. The usual ones may be missing; another one that is missing is an error.
    folds : int
        Groups of training tracks that are left out in turn, to see what the fusion gains on tracks that it has not
        seen; see `stemfuse.blending.cross_validate`. When not given, this is done where there are no validation tracks,
        or where they are fewer than eight and chose among trials or epochs; with eight songs or more a fusion that is
        trained is not trained again unasked. 0: never.
    workers : int, optional
        Processes; one per core when not given.
    progress : callable
        Called as ``progress(stage, done, total)``.
    convert : bool
        Whether tracks may be converted to the rate and channels that separators need, and their stems back.
    mixture : {"file", "sum"}
        See `stemfuse.experiments.data.open_data`.
    sources : mapping, optional
        Sources that are picked or summed up, of references and stems alike; see
        `stemfuse.separators.parse_sources`.
    overwrite : bool
        Whether a file that is there is replaced; it is kept under another name otherwise.
    missing : {"error", "skip"}
        Songs that a separator whose stems cannot be made here has none of: an error, or left out.
    augment : AugmentConfig, optional
        New songs to fit on beside those of the data, see `stemfuse.experiments.remixes.remixed_tracks`; no song is left
        out in turn then, as they are mixed of all.
    training : TrainingConfig, optional
        Where and how a mixer is trained.

    Returns
    -------
    DataFrame
        SDR of every separator, of their mean and of the fusion, per source, on the validation tracks if there are any,
        else on the tracks that it was fitted on; see `sdr_table`. With folds more rows, of tracks that were left out:
        the mean and the fusion. Where its songs are new to the fusion, its gains; see `gain_rows`.

    Raises
    ------
    StemfuseError
        There are no tracks to fit on, stems cannot be made, or the fusion cannot be fitted.
    """
    training = training or TrainingConfig()
    check_training(training, alone=True)
    check_store(store)
    target = StemStore(store)
    clear_remains(out.parent)
    fusion = _checked_fusion(name, options, out, folds)
    if not separators:
        raise ConfigError("no separators given, expected at least one: --separators A,B,C")
    chosen = [find_separator(text, target) for text in separators]
    check_labels(chosen, ["mean", fusion.kind])
    check_new_files(chosen, fusion.saved_files(out))
    with usage_errors():
        fusion.check_inputs({separator.label: None for separator in chosen})
    fitted, validated = tracks_to_fit(open_data(data, mixture, sources), train, valid)
    parts = fitted, _not_among(fitted, validated, target)
    if missing == "skip":
        parts = _complete(parts[0], chosen, target), _complete(parts[1], chosen, target)
        if not parts[0]:
            raise ConfigError(f"{data}: no track to fit on has stems by all separators; leave one out, or adopt stems")
    # refused before stems are made
    at_one_rate(fusion, *parts, convert)
    own = len(parts[0])
    if augment is not None:
        folds = _without_folds(fusion, folds)
        parts = [*parts[0], *_remixes(parts[0], augment, target, chosen, workers, progress)], parts[1]
    fitted, validated = (with_stems(part, chosen, target, workers, progress, convert, sources) for part in parts)
    described = {separator.label: separator.description(fitted[0], target) for separator in chosen}
    fusion.separators_ = with_sums(described, fitted)
    fusion.songs_ = songs_seen(fusion, target, [*fitted, *validated])
    keys = {separator.label: separator.key for separator in chosen}
    identity = fit_identity(fusion, fitted, validated, target, keys, training) if goes_on(fusion) else ""
    logs = out.with_name(f"{out.stem}-tensorboard") / identity[:8]
    fusion.trained_by(execution_of(training, target, logs, CHECKPOINT_MINUTES))
    # what the store knows of a track is known of it before it is converted
    seen = _seen(fusion, target, fitted, validated)
    fitted, validated = at_one_rate(fusion, fitted, validated, convert)
    if fusion.learns:
        measure([*fitted, *validated], workers or cores(), progress)
        leaks(fitted, validated)
    unfinished = fit_safely(fusion, fitted, validated, identity, out, overwrite, progress)
    if said := kept_equal(fusion.kept_equal_):
        log.warning("%s: %s", fusion.kind, said)
    fitted = fitted[:own]
    scores = sdr_scores(fusion, validated or fitted)
    table = sdr_table(scores, {fusion.kind: seen})
    crossed, wanted = _to_leave_out(fusion, target, fitted, validated, folds)
    if wanted >= 2:
        # its curves would be others in the same folder
        anew = make_fusion(name, **options).trained_by(
            execution_of(training, target, checkpoint_minutes=CHECKPOINT_MINUTES, again=True)
        )
        table = _with_unseen(table, fusion, anew, crossed, wanted, folds is not None, kept_folds(unfinished), progress)
    # what chose among them says little of other songs
    elif fusion.kind in set(scores.get("fusion", ())) and not seen:
        table = _joined(table, gain_rows(scores, fusion.kind))
    if unfinished is not None:
        unfinished.end()
    return table


def _without_folds(fusion: BaseFusion, folds: int | None) -> int:
    """0: no song can be left out where others are mixed of it; folds that were asked for are refused."""
    if folds:
        raise ConfigError("--folds: what --augment mixes of a song is not left out with it; expected one of the two")
    if not fusion.learns:
        raise ConfigError(f"--augment: a {fusion.kind} fusion learns nothing; leave it out")
    return 0


def _remixes(
    songs: Sequence[Track],
    augment: AugmentConfig,
    store: StemStore,
    separators: Sequence[StoredSeparator],
    workers: int | None,
    progress: Progress,
) -> list[Track]:
    """Songs mixed anew, of the subset of the first song that is fitted on."""
    return remixed_tracks(
        songs, augment, store, separators, songs[0].subset, workers=workers or cores(), progress=progress
    )


def _with_unseen(
    table: pd.DataFrame,
    fusion: BaseFusion,
    anew: BaseFusion,
    tracks: Sequence[Track],
    folds: int,
    is_asked: bool,
    prepare: Callable[[BaseFusion, int], None],
    progress: Progress,
) -> pd.DataFrame:
    """The table with scores of songs that were left out in turn; as it is where the fusion cannot be fitted so."""
    try:
        return _with_cross_validation(table, sdr_scores(fusion, tracks), anew, tracks, folds, prepare, progress)
    except FusionError as error:
        if is_asked:
            raise
        log.warning(f"{UNKNOWN}, {fusion.kind} cannot be fitted with a song left out: %s", error)
        return table


def _to_leave_out(
    fusion: BaseFusion, store: StemStore, fitted: Sequence[Track], validated: Sequence[Track], folds: int | None
) -> tuple[list[Track], int]:
    """Songs that are left out in turn, and in how many groups; those that chose are among them where they are few."""
    chose = len(validated) if fusion.chosen_by_valid else 0
    few = 0 < chose < FEW
    tracks = [*fitted, *validated] if few and folds is None else list(fitted)
    wanted = min(len(tracks), FEW) if folds is None and (few or not validated) else folds or 0
    if wanted < 2:
        return tracks, 0
    if not fusion.learns:
        if folds:
            log.warning("--folds: a %s fusion learns nothing: no song is left out", fusion.kind)
        return tracks, 0
    if said := seen_before(fusion, store, tracks):
        log.warning(f"{UNKNOWN}: %s", said)
        return tracks, 0
    if folds is None and trains(fusion):
        if len(tracks) >= FEW:
            log.warning(f"{UNKNOWN}: --folds 5 leaves songs out in turn, and trains five times more")
            return tracks, 0
        log.info("training %d times more, each time without one song; --folds 0 leaves this out", wanted)
    return tracks, wanted


def _checked_fusion(name: str, options: Mapping[str, Any], out: Path, folds: int | None) -> BaseFusion:
    """The fusion to fit; whatever can be known to be wrong is refused before any work."""
    with usage_errors():
        fusion = make_fusion(name, **options)
        fusion.check()
    if out.suffix != fusion.suffix:
        raise ConfigError(f"{out}: a {name} fusion is saved as {fusion.suffix}; choose such a name")
    check_output(out)
    if folds == 1:
        raise ConfigError("--folds: got 1 group, which leaves no song to fit on; expected at least 2, or 0 for none")
    return fusion


def tracks_to_fit(found: DataSet, train: Sequence[str], valid: Sequence[str]) -> tuple[list[Track], list[Track]]:
    """Tracks of a data set to fit and to validate on; a data set without training tracks is fitted on as a whole.

    Of fewer than eight tracks none is set aside to validate on, unless the data set itself does so.
    """
    # track and subset names are kept in one form of Unicode
    train, valid = ([unicodedata.normalize("NFC", subset) for subset in given] for given in (train, valid))
    check_subsets("--train", train, FitConfig().train, found.subsets, str(found.path))
    check_subsets("--valid", valid, FitConfig().valid, found.subsets, str(found.path))
    subsets = [subset for subset in train if subset in found.subsets]
    if not subsets and tuple(train) == FitConfig().train:
        subsets = [subset for subset in found.subsets if subset not in valid] or list(found.subsets)
    fitted = [track for subset in subsets for track in found.tracks(subset)]
    if not fitted:
        raise ConfigError(
            f"{found.path}: no tracks in {', '.join(train)}, the subsets are {', '.join(found.subsets)}; "
            "choose with --train"
        )
    chosen = [subset for subset in valid if subset in found.subsets and subset not in subsets]
    validated = [track for subset in chosen for track in found.tracks(subset)]
    if again := [subset for subset in valid if subset in subsets and subset in train]:
        log.warning("%s: fitted on, so nothing is validated there", ", ".join(again))
    if is_small(found) and "train" in subsets:
        return [*fitted, *validated], []
    return fitted, validated


def _not_among(fitted: Sequence[Track], validated: Sequence[Track], store: StemStore) -> list[Track]:
    """Tracks to validate on without those that are fitted on, under whatever name."""
    known = set(songs_of(store, fitted)) if validated else set()
    kept = [track for track, song in zip(validated, songs_of(store, validated), strict=True) if song not in known]
    if twice := [track.name for track in validated if track not in kept]:
        log.warning("%s: fitted on too, so not validated on", listed(twice))
    return kept


def _complete(tracks: Sequence[Track], separators: Sequence[StoredSeparator], store: StemStore) -> list[Track]:
    """Tracks of which all separators have stems, or can make them; what is left out is said."""
    kept = list(tracks)
    for separator in separators:
        if lacking := [one for one in tracks if not separator.can_give(one, store)]:
            names = listed((track.name for track in lacking), most=20)
            log.warning(
                "%s has no stems of %d of %d songs, left out: %s", separator.label, len(lacking), len(tracks), names
            )
            kept = [track for track in kept if track not in lacking]
    return kept


def _seen(fusion: BaseFusion, store: StemStore, fitted: Sequence[Track], validated: Sequence[Track]) -> str:
    """Why the scores of a fitted fusion are better than on new songs; empty where they are not."""
    if fusion.learns and not validated:
        return "fitted on these very songs: on others it gains less"
    if said := seen_before(fusion, store, validated or fitted):
        return said
    return f"these songs chose {fusion.chosen_by_valid}: on others it gains less" if fusion.chosen_by_valid else ""


def _with_cross_validation(
    table: pd.DataFrame,
    scores: pd.DataFrame,
    fusion: BaseFusion,
    tracks: Sequence[Track],
    folds: int,
    prepare: Callable[[BaseFusion, int], None],
    progress: Progress,
) -> pd.DataFrame:
    """More rows: the mean and the fusion on training tracks that were left out in turn, and the gains."""
    import pandas as pd

    from stemfuse.blending import cross_validate

    singles = scores[~scores["fusion"].isin(["mean", fusion.kind])]
    crossed = pd.concat([singles, cross_validate(fusion, tracks, folds, progress, prepare)], ignore_index=True)
    crossed.attrs |= scores.attrs
    unseen = sdr_table(crossed)
    unseen = unseen[unseen["SDR, dB"].isin(["mean", fusion.kind])]
    notes = unseen["note"].where(unseen["note"] != "", f"of {len(tracks)} songs")
    unseen = unseen.assign(**{"SDR, dB": unseen["SDR, dB"] + ", left out in turn", "note": notes})
    return _joined(table, unseen, gain_rows(crossed, fusion.kind))


def _joined(table: pd.DataFrame, *more: pd.DataFrame) -> pd.DataFrame:
    """Rows of several tables; the songs are those of the first."""
    import pandas as pd

    joined = pd.concat([table, *more], ignore_index=True)
    joined.attrs |= table.attrs
    return joined
