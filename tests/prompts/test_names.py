"""Invented names, and names streamed from a file."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from topcoat.errors import DataError, TopcoatError, UsageError
from topcoat.prompts.names import FileNames, InventedNames, check_locale, is_latin, read_names
from topcoat.prompts.photo import sample_photo_prompts

HEADER = "nconst\tprimaryName\tbirthYear\tdeathYear\tprimaryProfession\tknownForTitles\n"


def imdb_lines(count: int) -> list[str]:
    """Invented rows in IMDb's layout: actresses A..., actors B..., a director each, one name in another script."""
    lines = [HEADER]
    for number in range(count):
        lines.append(f"nm{number:07d}\tAda Actress{number}\t1950\t\\N\tactress,producer\ttt1\n")
        lines.append(f"nm{number:07d}\tBo Actor{number}\t1950\t2001\twriter,actor\ttt1,tt2\n")
        lines.append(f"nm{number:07d}\tCy Director{number}\t\\N\t\\N\tdirector\t\\N\n")
        lines.append(f"nm{number:07d}\tИван Актёр{number}\t\\N\t\\N\tactor\t\\N\n")
    return lines


def gz(path: Path, lines: list[str]) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(lines)
    return path


def test_an_invented_name_depends_on_seed_index_and_locale_alone() -> None:
    names = InventedNames(3)
    backwards = [names.name(index, "female", "pl_PL") for index in reversed(range(20))][::-1]
    assert backwards == [InventedNames(3).name(index, "female", "pl_PL") for index in range(20)]
    assert len(set(backwards)) > 15
    assert backwards != [InventedNames(4).name(index, "female", "pl_PL") for index in range(20)]


def test_family_names_that_have_a_gender_follow_it() -> None:
    names = InventedNames(0)
    assert all(names.name(index, "female", "is_IS").endswith("dóttir") for index in range(20))
    assert all(names.name(index, "male", "is_IS").endswith("son") for index in range(20))
    either = {names.name(index, "either", "is_IS").endswith("dóttir") for index in range(20)}
    assert either == {True, False}


@pytest.mark.parametrize("locale", ["ru_RU", "hi_IN"])
def test_another_script_is_refused(locale: str) -> None:
    with pytest.raises(UsageError, match=f"locale '{locale}' are not in the Latin script"):
        check_locale(locale)


@pytest.mark.parametrize("locale", ["xx_XX", "en_AU", "os.path", ""])
def test_a_locale_without_names_is_refused(locale: str) -> None:
    with pytest.raises(UsageError, match="Faker has no names for the locale"):
        check_locale(locale)


@pytest.mark.parametrize(
    ("text", "latin"), [("Nguyễn Ø'Brien-Łoś", True), ("Sa’diya", True), ("Иван", False), ("李", False)]
)
def test_latin(text: str, latin: bool) -> None:
    assert is_latin(text) is latin


def test_a_list_of_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffAda Lovelace\n\n Grace  Hopper \nAda Lovelace\n", encoding="utf-8")
    names = read_names(tmp_path / "names.txt", 10, 0)
    assert not names.is_imdb
    assert set(names.pools["either"]) == {"Ada Lovelace", "Grace Hopper"}
    given = [names.name(index, "female", "") for index in range(10)]
    assert all(set(given[start : start + 2]) == set(names.pools["either"]) for start in range(0, 10, 2))
    assert "real people" in names.notices[0]


@pytest.mark.parametrize("seed", [0, 1, 2**70])
def test_the_first_names_are_the_same_for_more_and_in_any_order_of_the_file(tmp_path: Path, seed: int) -> None:
    lines = [f"Name{number} Family\n" for number in range(500)]
    (tmp_path / "a.txt").write_text("".join(lines))
    (tmp_path / "b.txt").write_text("".join(reversed(lines)))
    few, many = read_names(tmp_path / "a.txt", 20, seed), read_names(tmp_path / "b.txt", 900, seed)
    assert many.pools["either"][:20] == few.pools["either"]
    assert len(many.pools["either"]) == 500
    assert few.pools["either"] != read_names(tmp_path / "a.txt", 20, seed + 1).pools["either"]


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz"])
def test_imdb_names_follow_the_presentation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"name.basics.{suffix}"
    if suffix == "tsv":
        path.write_text("".join(imdb_lines(50)), encoding="utf-8")
    else:
        gz(path, imdb_lines(50))
    names = read_names(path, 60, 5)
    assert names.is_imdb and [len(pool) for pool in names.pools.values()] == [50, 50]
    assert len(names.notices) == 2
    assert "non-commercial" in names.notices[0] and "real people" in names.notices[1]
    prompts = sample_photo_prompts(60, 5, names=names)
    for prompt in prompts:
        kinds = {"woman": ("Ada",), "man": ("Bo",), "androgynous person": ("Ada", "Bo")}
        assert prompt.attributes["name"].split()[0] in kinds[prompt.attributes["presentation"]]
        assert "locale" not in prompt.attributes
    assert sample_photo_prompts(20, 5, names=read_names(path, 20, 5)) == prompts[:20]


def test_a_large_file_is_streamed_in_constant_memory(tmp_path: Path) -> None:
    peaks: list[int] = []
    for count in (8_000, 24_000):  # both packed larger than what gzip reads at once (128 KiB since Python 3.12)
        path = gz(tmp_path / f"{count}.tsv.gz", imdb_lines(count))
        tracemalloc.start()
        names = read_names(path, 20, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(names.pools["female"]) == 20
    assert peaks[1] < 1.2 * peaks[0] < 1_000_000


def test_progress_is_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topcoat.prompts.names._REPORT_EVERY", 10_000)
    path = gz(tmp_path / "n.tsv.gz", imdb_lines(15_000))
    reports: list[tuple[int, int]] = []
    read_names(path, 10, 0, lambda done, total: reports.append((done, total)))
    done, totals = zip(*reports, strict=True)
    assert list(done) == sorted(done) and done[0] < done[-1] <= path.stat().st_size
    assert set(totals) == {path.stat().st_size}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("n.txt", b"", "holds no name; write one name a line"),
        ("n.txt", b"Ada\n" + b"very " * 9 + b"\n", "n.txt line 2: is too long for a name; at most 8 words"),
        ("n.txt", b"Ada\tLovelace\n", "n.txt line 1: has columns but is not IMDb's name.basics.tsv"),
        ("n.txt", b"\xff\xfe", "is not UTF-8 text"),
        ("n.tsv.gz", b"not gzip at all", "is damaged or not complete; fetch it again"),
        ("n.tsv.gz", gzip.compress("".join(imdb_lines(500)).encode())[:-200], "is damaged or not complete"),
        ("n.tsv", HEADER.encode() + b"nm1\tAda\n", "n.tsv line 2: has 2 columns, not 6; fetch the file again"),
        ("n.tsv", HEADER.encode(), "holds no name of an actress"),
        ("n.tsv", b"nconst\tprimaryName\nnm1\tAda\n", "no column primaryProfession"),
    ],
)
def test_a_wrong_names_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TopcoatError, match=says):
        read_names(tmp_path / name, 5, 0)


def test_a_missing_names_file_and_a_bad_count(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read .No such file or directory"):
        read_names(tmp_path / "none.txt", 5, 0)
    with pytest.raises(UsageError, match="cannot sample 0 prompts"):
        read_names(tmp_path / "none.txt", 0, 0)


def test_names_that_run_out_come_again_in_another_order() -> None:
    names = FileNames(0, {"either": tuple("abcdefgh")}, is_imdb=False)
    rounds = ["".join(names.name(index, "male", "") for index in range(start, start + 8)) for start in (0, 8, 16)]
    assert rounds[0] == "abcdefgh"
    assert {"".join(sorted(text)) for text in rounds} == {"abcdefgh"}
    assert len(set(rounds)) == 3
