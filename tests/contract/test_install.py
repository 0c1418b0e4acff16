"""`requirements/install.py`: what is installed has the version of the lock and a hash of its files."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from requirements import install
from tests.fixtures.security import SecurityFigure

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "requirements"
PINS = [line for line in (FOLDER / "lock.txt").read_text().splitlines() if not line.startswith("#")]


def test_every_locked_version_has_hashes() -> None:
    hashed = (FOLDER / "hashes/packages.txt").read_text()
    lines = re.findall(r"(?m)^(\S+==.*?) \\$", hashed)

    assert lines == PINS
    assert len(install.hashes()) == len(install.locked())
    assert all(install.hashes().values())


def test_both_builds_of_torch_have_hashes() -> None:
    (pin,) = (line for line in PINS if line.startswith("torch=="))
    cpu = (FOLDER / "hashes/torch_cpu.txt").read_text()
    hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}", cpu)

    assert re.findall(r"(?m)^\S+==\S+", cpu) == [pin]
    assert hashes
    assert set(hashes) < set(install.hashes()["torch"])


def test_every_package_of_a_set_is_in_the_lock() -> None:
    sets = [path for path in FOLDER.glob("*.txt") if path.name != "lock.txt"]

    assert {name for path in sets for name in install.names(path)} <= install.locked().keys()


# uv, on a folder of wheels


@dataclass(frozen=True)
class Place:
    """A folder with the script, a set `app` that needs `alpha`, and an environment to install into."""

    folder: Path

    @property
    def wheels(self) -> Path:
        return self.folder / "wheels"

    @property
    def python(self) -> Path:
        return self.folder / "venv/bin/python"

    @property
    def environment(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
        return others | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "UV_PYTHON": str(self.python),  # of uv itself; the script takes the option only
            "UV_CACHE_DIR": str(self.folder / "cache"),
        }

    def wheel(self, name: str, version: str = "1.0", needs: str = "", text: str = "") -> Path:
        """Write a wheel of one module that holds a text."""
        info = f"{name}-{version}.dist-info"
        path = self.wheels / f"{name}-{version}-py3-none-any.whl"
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{name}.py", text)
            archive.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", f"{name}.py,,\n")
        return path

    def lock(self, files: Mapping[str, list[Path]], versions: str = "1.0") -> None:
        """Pin each package, with the hashes of these files."""
        entries = {
            name: [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
            for name, paths in files.items()
        }
        pins = {name: f"{name}=={versions}" for name in entries}
        lines = [*pins.values(), f"uv=={version('uv')}"]  # which is there already
        (self.folder / "requirements/lock.txt").write_text("\n".join(lines) + "\n")
        lines = [
            " \\\n".join([pins[name], *(f"    --hash=sha256:{digest}" for digest in digests)])
            for name, digests in entries.items()
            if digests
        ]
        (self.folder / "requirements/hashes/packages.txt").write_text("\n".join(lines) + "\n")

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        script = str(self.folder / "requirements/install.py")
        return self.run(script, *(arguments or ["app"]), f"--python={self.python}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], env=self.environment, cwd=self.folder, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip

    def installed(self) -> dict[str, str]:
        """The text of each module in the environment."""
        (site,) = (self.folder / "venv/lib").glob("*/site-packages")
        return {path.stem: path.read_text() for path in site.glob("*.py")}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    venv.create(tmp_path / "venv", with_pip=False)
    for folder in ("wheels", "requirements/hashes"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(FOLDER / "install.py", tmp_path / "requirements")
    (tmp_path / "requirements/app.txt").write_text("alpha\n")
    return Place(tmp_path)


@pytest.mark.integration
def test_what_a_set_needs_is_installed_by_hash(place: Place) -> None:
    files = {"alpha": [place.wheel("alpha", needs="beta")], "beta": [place.wheel("beta")]}
    place.lock(files | {"gamma": [place.wheel("gamma")]})
    place.wheel("beta", "2.0")  # newer than the lock

    done = place.install()

    assert done.returncode == 0, done.stdout
    assert place.installed().keys() == {"alpha", "beta"}
    assert place.install().returncode == 0


@pytest.mark.integration
@pytest.mark.security
def test_replaced_file_stops_the_installation(
    place: Place, security_figure: SecurityFigure
) -> None:
    files = {"alpha": [place.wheel("alpha", needs="beta")], "beta": [place.wheel("beta")]}
    place.lock(files)
    place.wheel("beta", text="stolen = True")

    done = place.install()

    assert done.returncode != 0
    assert "Hash mismatch" in done.stdout
    assert place.installed() == {}
    security_figure("wheel replaced on the package index: packages installed", "0", "0")


@pytest.mark.integration
@pytest.mark.security
def test_source_in_place_of_a_wheel_is_not_run(
    place: Place, security_figure: SecurityFigure
) -> None:
    files = {"alpha": [place.wheel("alpha", needs="beta")], "beta": [place.wheel("beta")]}
    place.lock(files)
    files["beta"][0].unlink()
    project = (
        "[project]\nname = 'beta'\nversion = '1.0'\ndynamic = ['dependencies']\n"
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    backend = f"open({str(place.folder / 'ran')!r}, 'w').close()\n"
    with tarfile.open(place.wheels / "beta-1.0.tar.gz", "w:gz") as archive:
        for name, text in (("pyproject.toml", project), ("backend.py", backend)):
            member = tarfile.TarInfo(f"beta-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))

    done = place.install()

    assert done.returncode != 0
    assert not (place.folder / "ran").exists()
    assert place.installed() == {}
    security_figure("source in place of a wheel on the package index: times it was run", "0", "0")


@pytest.mark.integration
def test_another_build_of_the_locked_version_needs_a_hash_too(place: Place) -> None:
    plain, cpu = place.wheel("alpha"), place.wheel("alpha", "1.0+cpu", text="cpu = True")

    place.lock({"alpha": [plain]})
    assert place.install("alpha").returncode != 0
    place.lock({"alpha": [plain, cpu]})
    assert place.install("alpha", "--no-deps", "--compile-bytecode").returncode == 0

    assert place.installed() == {"alpha": "cpu = True"}


@pytest.mark.integration
def test_own_build_that_is_installed_already_stays(place: Place) -> None:
    place.lock({"alpha": [place.wheel("alpha")]})
    own = place.wheel("alpha", text="own = True")
    assert place.run("-m", "uv", "pip", "install", "--quiet", str(own)).returncode == 0

    done = place.install()

    assert done.returncode == 0, done.stdout
    assert place.installed() == {"alpha": "own = True"}


@pytest.mark.integration
def test_package_without_a_hash_is_named(place: Place) -> None:
    place.lock({"alpha": [place.wheel("alpha", needs="beta")], "beta": []})
    place.wheel("beta")

    done = place.install()

    assert done.returncode != 0
    assert "beta: no hash in requirements/hashes" in done.stdout
    assert place.installed() == {}


# What pip is configured to


def configured(
    monkeypatch: pytest.MonkeyPatch, text: str, *more: str
) -> tuple[list[str], dict[str, str]]:
    """The options and the environment of uv for the output of `pip config list`."""
    monkeypatch.setattr(install, "run", lambda *_, **__: text)
    monkeypatch.setattr(install, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "platform", "linux")
    return install.configuration(install.pip_configuration(), more)


def test_the_environment_and_the_command_have_precedence_over_global_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options, _ = configured(
        monkeypatch,
        ":env:.index-url='https://a/simple'\ninstall.find-links='/b'\n"
        "global.index-url='https://c/simple'\nglobal.find-links='/d'\ndownload.find-links='/e'\n",
    )

    assert "--default-index=https://a/simple" in options
    assert [o for o in options if o.startswith("--find-links")] == ["--find-links=/b"]


def test_several_places_are_several_options(monkeypatch: pytest.MonkeyPatch) -> None:
    options, environment = configured(
        monkeypatch,
        "global.extra-index-url='https://a https://b'\nglobal.trusted-host='\\na\\nb'\n"
        "global.no-index='true'\nglobal.cert='/ca.pem'\nglobal.proxy='http://proxy:3128'\n",
    )

    expected = {"--index=https://a", "--index=https://b", "--no-index"}
    assert expected | {"--allow-insecure-host=a", "--allow-insecure-host=b"} <= set(options)
    assert environment["ALL_PROXY"] == "http://proxy:3128"
    assert environment["SSL_CERT_FILE"] in ("/ca.pem", os.environ.get("SSL_CERT_FILE"))


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, "cpu"),
        ("global.timeout='60'\n", {}, "cpu"),
        ("", {"TORCH": "cuda"}, None),
        ("", {"UV_TORCH_BACKEND": "auto"}, "auto"),
        ("", {"UV_DEFAULT_INDEX": "https://mirror/simple"}, None),
        ("global.index-url='https://mirror/simple'\n", {}, None),
        (":env:.find-links='/wheels'\n", {}, None),
    ],
)
def test_the_build_of_torch_is_for_the_cpu_unless_somebody_decides(
    text: str,
    environment: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TORCH", raising=False)
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    _, result = configured(monkeypatch, text)

    assert result.get("UV_TORCH_BACKEND") == expected


def test_an_index_on_the_command_line_decides_on_torch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
    option = "--default-index=https://mirror/simple"
    options, environment = configured(monkeypatch, "", option)

    assert option in options
    assert "UV_TORCH_BACKEND" not in environment


def test_packages_are_for_the_python_that_runs_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON", "3.9")  # as for other projects of the same machine

    _, environment = configured(monkeypatch, "")

    assert environment["UV_PYTHON"] == sys.executable


def test_an_unknown_build_of_torch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH", "gpu")

    with pytest.raises(SystemExit, match="TORCH=gpu: expected cpu or cuda"):
        configured(monkeypatch, "")
