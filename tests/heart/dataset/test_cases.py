"""Small files of the kinds that circulate: each is read as its patients are, or refused with the way out."""

from pathlib import Path

import numpy as np
import pytest

from heart.dataset import codings, reader, translation
from heart.dataset.detection import Settings
from heart.dataset.headings import COLUMNS
from heart.errors import UserError
from heart.schema import OUTCOME

SHORT = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal"
MAN = ["61", "male", "asymptomatic", "141", "251", "no", "left_ventricular_hypertrophy", "121",
       "yes", "2.1", "flat", "2", "reversible_defect", "presence"]  # fmt: skip
WOMAN = ["49", "female", "typical_angina", "127", "219", "yes", "normal", "171",
         "no", "0.3", "upsloping", "0", "normal", "absence"]  # fmt: skip
NO_ANSWER = {"thallium": "", "major_vessels": "", "st_slope": ""}
UCI_MAN, UCI_WOMAN = "61,1,4,141,251,0,2,121,1,2.1,2,2,7", "49,0,1,127,219,1,0,171,0,0.3,1,0,3"
FROM_0_MAN, FROM_0_WOMAN = (
    "61,1,3,141,251,0,2,121,1,2.1,1,2,2",
    "49,0,0,127,219,1,0,171,0,0.3,0,0,0",
)
NAMES = [*COLUMNS]


def read(
    path: Path, content: str | bytes, settings: Settings | None = None
) -> list[dict[str, str]]:
    """The patients of a file."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = reader.read(path)
    coding = translation.coding_of(table, settings or Settings()).coding
    columns, problems = translation.translate(table, coding)
    assert (problems, table.bad_lines) == ([], [])
    texts = {name: np.array(cells.texts)[cells.positions] for name, cells in columns.items()}
    return [{name: str(texts[name][row]) for name in texts} for row in range(len(table.lines))]


def patients(*rows: list[str], **other: str) -> list[dict[str, str]]:
    return [dict(zip(NAMES, row, strict=True)) | other for row in rows]


QUOTED = ",".join(f'"{name}"' for name in [*SHORT.split(","), "num"])
BOTH = patients(MAN, WOMAN)
KAGGLE = (
    "id,age,sex,dataset,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,num\n"
    "1,61,Male,Cleveland,asymptomatic,141,251,FALSE,lv hypertrophy,121,TRUE,2.1,flat,2,"
    "reversable defect,2\n"
    "2,49,Female,Hungary,typical angina,127,219,TRUE,normal,171,FALSE,0.3,upsloping,0,normal,0\n"
)
FAILURE = (
    "Age,Sex,ChestPainType,RestingBP,Cholesterol,FastingBS,RestingECG,MaxHR,ExerciseAngina,Oldpeak,"
    "ST_Slope,HeartDisease\n61,M,ASY,141,251,0,LVH,121,Y,2.1,Flat,1\n"
    "49,F,TA,127,0,1,Normal,171,N,0.3,Up,0\n"
)
OPENML = (
    f"{SHORT},num\n61,male,asympt,141,251,f,left_vent_hyper,121,yes,2.1,flat,2,reversable_defect,"
    "'>50_1'\n49,female,typ_angina,127,219,t,normal,171,no,0.3,up,0,normal,'<50'\n"
)
ISLR = (
    '"","Age","Sex","ChestPain","RestBP","Chol","Fbs","RestECG","MaxHR","ExAng","Oldpeak","Slope",'
    '"Ca","Thal","AHD"\n"1",61,1,"asymptomatic",141,251,0,2,121,1,2.1,2,2,"reversable","Yes"\n'
    '"2",49,0,"typical",127,219,1,0,171,0,0.3,1,NA,"normal","No"\n'
    + "".join(
        f'"{n}",{n},0,"typical",127,219,1,0,171,0,0.3,3,NA,"normal","No"\n' for n in (50, 51, 52)
    )
)
FILES: dict[str, tuple[str | bytes, list[dict[str, str]]]] = {
    "commas": (f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n", BOTH),
    "semicolons and decimal commas": (
        "\ufeff" + f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".replace(",", ";").replace(".", ","),
        BOTH,
    ),
    "tabs": (f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".replace(",", "\t"), BOTH),
    "spaces, without a heading": (
        f"{UCI_MAN},2\n{UCI_WOMAN},1\n".replace(",", "  "),
        BOTH,  # the label is that of Statlog
    ),
    "old Mac line ends": (f"{SHORT},num\r{UCI_MAN},2\r{UCI_WOMAN},0\r", BOTH),
    "UTF-16": (f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".encode("utf-16"), BOTH),
    "UTF-16 without a mark": (
        f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".encode("utf-16-le"),
        BOTH,
    ),
    "UTF-16, big end first, without a mark": (
        f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".encode("utf-16-be"),
        BOTH,
    ),
    "the index of pandas": (f",{SHORT},num\n0,{UCI_MAN},2\n1,{UCI_WOMAN},0\n", BOTH),
    "the row names of R": (f"{SHORT},num\na,{UCI_MAN},2\nb,{UCI_WOMAN},0\n", BOTH),
    "a column of the site": (f"{SHORT},num,site\n{UCI_MAN},2,x\n{UCI_WOMAN},0,y\n", BOTH),
    "missing, UCI": (
        f"{UCI_MAN},2\n49,0,1,127,219,1,0,171,0,0.3,-9,-9,-9,0\n",
        patients(MAN) + patients(WOMAN, **NO_ANSWER),
    ),
    "missing, R": (
        QUOTED + f"\n{UCI_MAN},2\n{UCI_WOMAN[:-2]},NA,0\n",
        patients(MAN) + patients(WOMAN, thallium=""),
    ),
    "missing, pandas": (
        f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN[:-2]},NaN,0\n",
        patients(MAN) + patients(WOMAN, thallium=""),
    ),
    "words of sex": (
        f"{SHORT},num\n61,Male{UCI_MAN[4:]},2\n49,Female{UCI_WOMAN[4:]},0\n",
        BOTH,
    ),
    "true and false": (
        f"{SHORT},num\n{UCI_MAN},2\n{UCI_WOMAN},0\n".replace("251,0,", "251,FALSE,").replace(
            "219,1,", "219,TRUE,"
        ),
        BOTH,
    ),
    "label 1 and 2": (f"{SHORT},target\n{UCI_MAN},2\n{UCI_WOMAN},1\n", BOTH),
    "words of four hospitals": (KAGGLE, BOTH),
    "words, eleven measurements": (
        FAILURE,
        [
            {k: v for k, v in row.items() if k not in ("major_vessels", "thallium")}
            for row in patients(MAN) + patients(WOMAN, cholesterol="")
        ],
    ),
    "words of OpenML": (OPENML, BOTH),
    "words beside codes": (
        ISLR,
        patients(MAN)
        + patients(WOMAN, major_vessels="")
        + [
            patients(WOMAN, major_vessels="", st_slope="downsloping", age=str(n))[0]
            for n in (50, 51, 52)
        ],
    ),
}


@pytest.mark.parametrize(("content", "expected"), FILES.values(), ids=FILES)
def test_a_file_is_read_as_its_patients_are(
    content: str | bytes, expected: list[dict[str, str]], tmp_path: Path
) -> None:
    assert read(tmp_path / "heart.csv", content) == expected


DOUBTFUL = {
    "heading condition": (
        f"{SHORT},condition\n{FROM_0_MAN},1\n{FROM_0_WOMAN},0\n",
        "uci_from_0",
        "",
    ),
    "counted from 0, thallium from 0": (
        f"{SHORT},target\n{FROM_0_MAN},1\n{FROM_0_WOMAN},0\n",
        "uci_from_0",
        "chest_pain_type, resting_ecg, st_slope, thallium",
    ),
    "counted from 0, thallium from 1": (
        f"{SHORT},target\n{FROM_0_MAN[:-1]}3,1\n{FROM_0_WOMAN[:-1]}1,0\n",
        "uci_from_0_thallium_from_1",
        "chest_pain_type, resting_ecg, st_slope, thallium",
    ),
    "headings of heart.csv": (
        "age,sex,cp,trtbps,chol,fbs,restecg,thalachh,exng,oldpeak,slp,caa,thall,output\n"
        "61,1,0,141,251,0,0,121,1,2.1,1,2,3,0\n49,0,3,127,219,1,1,171,0,0.3,2,0,2,1\n",
        "heart_csv",
        "chest_pain_type, resting_ecg, st_slope, thallium",
    ),
}


@pytest.mark.parametrize(("content", "coding", "columns"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_a_file_in_doubt_is_refused_until_its_coding_is_set(
    content: str, coding: str, columns: str, tmp_path: Path
) -> None:
    path = tmp_path / "heart.csv"

    with pytest.raises(UserError) as refusal:
        read(path, content)

    assert columns in str(refusal.value)
    assert coding in str(refusal.value).splitlines()[-1]
    rows = read(path, content, Settings(format=coding))
    assert [{**row, OUTCOME.name: ""} for row in rows] == patients(MAN, WOMAN, heart_disease="")


def test_only_so_many_bad_cells_of_a_column_are_translated(tmp_path: Path) -> None:
    path = tmp_path / "heart.csv"
    path.write_text("age,sex\n" + "".join(f"x{n},male\nx{n},male\n" for n in range(50)))
    table = reader.read(path, reader.TO_SCORE)

    _, problems = translation.translate(table, codings.named("words"), max_bad_cells=3)

    assert [table.lines[problem.rows].tolist() for problem in problems] == [[2, 3], [4, 5], [6, 7]]


def test_a_column_of_words_does_not_decide_its_codes() -> None:
    coding = codings.named("words")

    assert coding.translate("sex", "1") == "male"
    with pytest.raises(ValueError, match="thallium is '2'"):
        coding.translate("thallium", "2")
