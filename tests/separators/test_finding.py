"""Finding stems of any sources: two and six stems, open names, equal names in subsets, one song, what is missing."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemfuse.separators import SOURCES, Stems, Track, TrackError, parse_sources
from stemfuse.separators.clutter import is_clutter
from stemfuse.separators.store.adoption import Adoption, find_stems

LENGTH = 1000


def track(name: str, sources: tuple[str, ...] = (), subset: str = "test") -> Track:
    audio = np.random.default_rng(3).normal(0, 0.1, (len(sources) or 1, 2, LENGTH))
    references = Stems(audio, sources) if sources else None
    made = Track.from_arrays(name, audio.sum(0), subset=subset)
    return Track(made.name, made.mixture, subset, references)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def files_of(adoption: Adoption) -> dict[str, list[str]]:
    return {
        f"{stems.track.subset}/{stems.track.name}": [
            f"{source}: {path.relative_to(adoption.folder).as_posix()}" for source, path in stems.files.items()
        ]
        for stems in adoption.found
    }


@pytest.mark.parametrize(
    "word", ["accompaniment", "no_vocals", "instrumental", "Instrumental", "No Vocals", "minus vocals"]
)
@pytest.mark.parametrize("sources", [("vocals", "accompaniment"), ()])
def test_two_stem_names_are_the_accompaniment(tmp_path: Path, word: str, sources: tuple[str, ...]) -> None:
    touch(tmp_path, "A/vocals.wav", f"A/{word}.flac")
    adoption = find_stems(tmp_path, [track("A", sources)])
    assert sorted(files_of(adoption)["test/A"]) == sorted([f"accompaniment: A/{word}.flac", "vocals: A/vocals.wav"])
    assert not adoption.ignored


def test_an_instrumental_keeps_the_name_that_the_data_set_gives_it(tmp_path: Path) -> None:
    touch(tmp_path, "A_(Vocals)_MDX.wav", "A_(Instrumental)_MDX.wav")
    adoption = find_stems(tmp_path, [track("A", ("vocals", "instrumental"))])
    assert files_of(adoption) == {"test/A": ["vocals: A_(Vocals)_MDX.wav", "instrumental: A_(Instrumental)_MDX.wav"]}


def test_an_accompaniment_beside_four_stems_is_ignored_and_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"A/{source}.wav" for source in (*SOURCES, "no_vocals")))
    adoption = find_stems(tmp_path, [track("A", SOURCES)])
    assert adoption.sources == SOURCES
    assert "ignored: 1 x no_vocals, such as A/no_vocals.wav" in str(adoption)


@pytest.mark.parametrize(
    ("sources", "template"),
    [
        (("speech", "music", "effects"), "test/{track}/{source}.wav"),
        (("lead guitar", "choir"), "{track}_({source})_big_model.flac"),
        (("Kick", "Snare", "hi-hat"), "m/{track}/{source}.M4A"),
        (("vocals",), "{track}_{source}.OGG"),
    ],
)
def test_any_sources_of_a_data_set_are_found(tmp_path: Path, sources: tuple[str, ...], template: str) -> None:
    paths = {source: template.format(track="My Song", source=source) for source in sources}
    touch(tmp_path, *paths.values(), "notes.txt")
    adoption = find_stems(tmp_path, [track("My Song", sources)])
    assert files_of(adoption) == {"test/My Song": [f"{source}: {path}" for source, path in paths.items()]}
    assert adoption.left_over == ()


def test_parts_of_other_are_added_to_it(tmp_path: Path) -> None:
    parts = np.random.default_rng(0).normal(0, 0.1, (6, 2, LENGTH)).astype("float32")
    six = (*SOURCES, "guitar", "piano")
    Stems(parts, six).write(tmp_path / "htdemucs_6s" / "A")
    (tmp_path / "htdemucs_6s" / "B").mkdir()
    for source in six[:-1]:
        (tmp_path / "htdemucs_6s" / "B" / f"{source}.wav").touch()
    adoption = find_stems(tmp_path, [track("A", SOURCES), track("B", SOURCES)])
    whole, other = adoption.found[0].signals()["other"], parts[2] + parts[4] + parts[5]
    np.testing.assert_allclose(whole.read(), other, atol=1e-6)
    assert "other is the sum of other, guitar, piano" in adoption.notes
    # without its piano, the other of B is only a part
    assert adoption.incomplete == {"B": ("other",)}
    split = find_stems(tmp_path / "htdemucs_6s", [track("A", six)])
    assert split.sources == six
    assert split.found[0].added == {}
    assert find_stems(tmp_path, [track("A", SOURCES)], sources=six).found[0].added == {}


def test_equal_names_are_told_apart_by_their_subsets(tmp_path: Path) -> None:
    tracks = [track("Song", subset=subset) for subset in ("train", "test")]
    tracks.append(track("Etude", subset="valid"))
    touch(tmp_path, "m/train/Song/vocals.wav", "m/test/Song/vocals.wav", "m/train/Etude/vocals.wav")
    assert files_of(find_stems(tmp_path, tracks)) == {
        "train/Song": ["vocals: m/train/Song/vocals.wav"],
        "test/Song": ["vocals: m/test/Song/vocals.wav"],
        "valid/Etude": ["vocals: m/train/Etude/vocals.wav"],
    }
    (tmp_path / "Song").mkdir()
    touch(tmp_path / "flat", "Song/vocals.wav")
    with pytest.raises(TrackError, match=r"fits the tracks 'Song' of train, 'Song' of test; put it into a folder"):
        find_stems(tmp_path / "flat", tracks)


def test_stems_of_another_subset_are_not_taken(tmp_path: Path) -> None:
    touch(tmp_path, "test/Song/vocals.wav", "train/Song/vocals.wav", "test/Two/vocals.wav")
    adoption = find_stems(tmp_path, [track("Song", subset="train"), track("Two")])
    assert files_of(adoption)["train/Song"] == ["vocals: train/Song/vocals.wav"]
    assert [path.as_posix() for path in adoption.left_over] == ["test/Song/vocals.wav"]


def test_the_folder_of_one_track(tmp_path: Path) -> None:
    touch(tmp_path, "vocals.WAV", "no_vocals.Flac", "mixture.wav", "deep/drums.wav")
    adoption = find_stems(tmp_path, [track("A", ("vocals", "accompaniment"))])
    assert files_of(adoption) == {"test/A": ["vocals: vocals.WAV", "accompaniment: no_vocals.Flac"]}
    assert [path.as_posix() for path in adoption.left_over] == ["deep/drums.wav"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_forms_of_names_and_duplicates_in_both(tmp_path: Path, form: str) -> None:
    name = "Étoile Ø - Jóga"
    touch(tmp_path, f"{unicodedata.normalize(form, name)}/vocals.wav")
    assert find_stems(tmp_path, [track(name)]).found[0].track.name == name
    other = "NFD" if form == "NFC" else "NFC"
    touch(tmp_path, f"{unicodedata.normalize(other, name)}/Vocals.wav")
    with pytest.raises(TrackError, match="got 2 files for vocals, expected one"):
        find_stems(tmp_path, [track(name)])


def test_what_file_systems_leave_is_no_stem(tmp_path: Path) -> None:
    touch(tmp_path, "A/vocals.wav", "@eaDir/A/vocals.wav", "__MACOSX/A/._vocals.wav", "A/.@__thumb/vocals.wav")
    adoption = find_stems(tmp_path, [track("A")])
    assert files_of(adoption) == {"test/A": ["vocals: A/vocals.wav"]}
    assert len(adoption.left_over) == 3
    assert not is_clutter("...dots...")


def test_long_lists_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "A/vocals.wav", *(f"clicks/{number}.wav" for number in range(30)))
    text = str(find_stems(tmp_path, [track("A"), *(track(f"Song {number}") for number in range(25))]))
    assert "no stems of 15 more tracks" in text
    assert "left over, not a track's stem: 20 more files" in text


def write_stems(folder: Path, template: str, sources: tuple[str, ...], name: str = "A") -> dict[str, np.ndarray]:
    audio = dict(zip(sources, np.random.default_rng(1).normal(0, 0.1, (len(sources), LENGTH, 2)), strict=True))
    for source, samples in audio.items():
        path = folder / template.format(track=name, source=source)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, 44_100, subtype="FLOAT")
    return audio


@pytest.mark.parametrize("template", ["{track}/{source}.wav", "{track}_{source}.wav", "{track}_({source})_model.wav"])
@pytest.mark.parametrize(
    "part", ["guitars", "synths", "organ", "acoustic_guitar", "Lead Guitar", "percussion", "bowed_strings"]
)
def test_every_instrument_is_a_part_of_other(tmp_path: Path, part: str, template: str) -> None:
    audio = write_stems(tmp_path, template, (*SOURCES, part))
    for sources in (SOURCES, ("vocals", "accompaniment")):
        (found,) = find_stems(tmp_path, [track("A", sources)]).found
        np.testing.assert_allclose(found.signals()["other"].read(), (audio["other"] + audio[part]).T, atol=1e-6)
    (found,) = find_stems(tmp_path, [track("A")]).found
    assert len(found.files) == 5, "without references it is a stem of its own"
    assert not found.added


@pytest.mark.parametrize("template", ["{track}/{source}.wav", "{track}_{source}.wav", "{track}_({source})_model.wav"])
@pytest.mark.parametrize("part", ["kazoo", "choir", "effects", "Kick"])
def test_a_stem_beside_other_that_nobody_knows_is_refused(tmp_path: Path, part: str, template: str) -> None:
    audio = write_stems(tmp_path, template, (*SOURCES, part))
    for sources, whole in ((SOURCES, "other"), (("vocals", "accompaniment"), "accompaniment")):
        with pytest.raises(TrackError, match=f"say whether {part.lower()} is a part of {whole} ") as refused:
            find_stems(tmp_path, [track("A", sources)])
        with_it, without = re.findall(r"--sources ([^)]*)", str(refused.value))
        for advice, parts in ((with_it, {"other", part}), (without, {"other"})):
            given = parse_sources(advice)
            (found,) = find_stems(tmp_path, [track("A", sources)], given).found
            assert set(found.files) == set(given)
            of_whole = parts | ({"drums", "bass"} if whole == "accompaniment" else set())
            expected = sum(audio[name] for name in of_whole).T
            np.testing.assert_allclose(found.signals()[whole].read(), expected, atol=1e-6)


@pytest.mark.parametrize("word", ["no_drums", "lead_vocals", "mixture", "residual", "karaoke"])
def test_what_is_known_to_be_no_part_of_other_is_ignored(tmp_path: Path, word: str) -> None:
    write_stems(tmp_path, "{track}/{source}.wav", (*SOURCES, word))
    adoption = find_stems(tmp_path, [track("A", SOURCES)])
    assert adoption.sources == SOURCES
    assert list(adoption.ignored) == [word]


@pytest.mark.parametrize("subset", ["Übung", "Café", "Prüfung"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_subsets_are_told_apart_in_any_form_of_unicode(tmp_path: Path, form: str, subset: str) -> None:
    touch(tmp_path, *(f"{unicodedata.normalize(form, name)}/Song/vocals.wav" for name in (subset, "Tést")))
    found = find_stems(tmp_path, [track("Song", subset=name) for name in (subset, "Tést")]).found
    assert [unicodedata.normalize("NFC", one.files["vocals"].parts[-3]) for one in found] == [subset, "Tést"]
