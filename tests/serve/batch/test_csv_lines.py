from pathlib import Path

import pytest

from heart.dataset.layout import detect
from serve.batch import csv_files, csv_lines
from serve.batch.layout import Choice, match
from serve.batch.storage import Place

HEADING = ["age", "sex", "note"]
LAYOUT = match(HEADING, Choice(keep=("note",)), "x", detect(",".join(HEADING).encode(), "x"))
GOOD = [b"51,male,a", b'52,female,"b, c"', b"53,male,", b"54,male,\xc3\xa9"]


def parsed(lines: list[bytes], end: bytes = b"\n") -> tuple[list[str], dict[int, str]]:
    table, problems = csv_lines.parse(end.join(lines), LAYOUT, LAYOUT.used)
    assert len(table) == len(lines)
    return table["age"].to_pylist(), {int(row): why for rows, why in problems for row in rows}


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_good_lines_are_rows(end: bytes) -> None:
    assert parsed(GOOD, end) == (["51", "52", "53", "54"], {})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"60,male", "2 columns, expected 3"),
        (b"60,male,a,b", "4 columns, expected 3"),
        (b'"60,male,a', "1 columns, expected 3"),
        (b'60,"male,a', "2 columns, expected 3"),
        (b"60,male,a\r61,male,b", "not one row of a table"),
    ],
)
def test_a_broken_line_among_many_is_reported_at_its_line_number(line: bytes, reason: str) -> None:
    lines = [*GOOD * 100, line, *GOOD * 50, line]

    ages, problems = parsed(lines)

    assert problems == {400: reason, 601: reason}
    assert [row for row, age in enumerate(ages) if age is None] == [400, 601]
    assert [age for age in ages if age] == ["51", "52", "53", "54"] * 150


def test_a_line_in_latin_1_is_read() -> None:
    ages, problems = parsed([*GOOD * 100, b"60,male,\xe9"])

    assert problems == {}
    assert ages[-1] == "60"


@pytest.mark.parametrize("end", ["", "\n", "\n\r\n\n"])
def test_every_line_is_in_one_part_wherever_a_file_is_cut(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_files, "STEP", 3)
    ages = [str(age) for age in range(20, 100)]
    path = tmp_path / "t.csv"
    path.write_text("\ufeffage,sex,note\r\n" + "\r\n".join(f"{a},male,{a}" for a in ages) + end)
    place = Place.of(str(path))

    for size in range(1, 60):
        monkeypatch.setattr(csv_files, "PART_BYTES", size)
        result = [
            age
            for start, stop in csv_files.cut(place, LAYOUT)
            for batch, problems in csv_files.batches(place, LAYOUT, start, stop)
            for age in batch["age"].to_pylist()
            if not problems
        ]

        assert result == ages
