"""The metadata of a version's patients are valid Croissant and describe the tables that it was made from."""

import json
from pathlib import Path

import pytest

from heart import files
from heart.governance.croissant import patients
from heart.schema import NAMES, OUTCOME
from tests.heart.governance.documents import UCI, complete
from tests.heart.test_marginals import patients as rows_of

PATHS = {"train": files.TRAIN, "test": files.TEST}


@pytest.fixture(autouse=True)
def _tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the tables of patients, of which the training patients have one further column."""
    monkeypatch.chdir(tmp_path)
    files.write_table(files.TRAIN, rows_of(20).assign(**{"kept_ward, and floor": "a, 1"}))
    files.write_table(files.TEST, rows_of(8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # rdflib's, of mlcroissant
def test_the_metadata_read_the_tables() -> None:
    import mlcroissant

    path = Path("croissant.json")
    path.write_bytes(patients(complete(), PATHS))

    data_set = mlcroissant.Dataset(jsonld=str(path))

    for name, file in PATHS.items():
        table = files.read_table(file)
        records = list(data_set.records(name))
        assert [r[f"{name}/sex"].decode() for r in records] == table["sex"].tolist()
        assert [r[f"{name}/age"] for r in records] == table["age"].astype(float).tolist()


def test_hashes_columns_and_origin_are_those_of_the_version() -> None:
    content = json.loads(patients(complete(), PATHS))

    assert [file["md5"] for file in content["distribution"]] == [
        files.md5(path) for path in PATHS.values()
    ]
    for records, path in zip(content["recordSet"], PATHS.values(), strict=True):
        columns = [field["name"] for field in records["field"]]
        assert columns == list(files.read_table(path))
        assert set(columns) >= {*NAMES, OUTCOME.name}
    assert "creativecommons" in content["license"]


@pytest.mark.parametrize("others", ["another table", "patients of the service"])
def test_of_other_patients_license_and_origin_are_left_open(others: str) -> None:
    documents = complete("0" * 32 if others == "another table" else UCI)
    if others == "patients of the service":
        documents["split"]["test"]["by_source"] = {"raw": 73, "production": 2}

    content = json.loads(patients(documents, PATHS))

    assert not content.keys() & {"license", "citeAs", "url"}
