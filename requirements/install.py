"""Install sets of requirements in the versions of lock.txt, and only files whose hashes are in hashes/.

    python requirements/install.py SET... [options of `uv pip install`]

SET is a file beside this one (`serve` for serve.txt) or the name of one package. uv does it, in seconds where pip takes
minutes; pip installs uv itself, by its hash. Then three calls:

1. Some packages are published as source only, and building one runs its code: they are installed first, by their hash.
2. A dry run resolves what else is missing, from wherever pip is configured to look: another index, a folder of wheels.
   It takes no source, so it runs nothing of what it finds.
3. What it resolved is installed by version and hash. uv ends with an error if a file has another hash.

One call would not do: the lock is for all platforms, and which packages of it are needed depends on the build of torch.
That is the one for the CPU, a tenth of the other, unless pip is configured to look elsewhere; TORCH=cuda takes the one of
the package index. Packages that are installed in the locked version already stay as they are, so a build of one's own
is installed before this.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
LOCK = HERE / "lock.txt"
SOURCE_ONLY = (
    "antlr4-python3-runtime",
    "jsonpath-rw",
    "pyspark",
)  # the sets that need them name them
# Options of pip, and what uv calls them.
PLACES = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
}
OTHERS = {"trusted-host": "--allow-insecure-host"}
ENTRY = re.compile(r"(?m)^([\w.-]+)==(?:[^\\\n]*\\\n +--hash=[^\\\n]*)+")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes(folder: Path = HERE / "hashes") -> dict[str, list[str]]:
    """The pip options with the hashes of each package, by its name."""
    result: dict[str, list[str]] = {}
    for file in sorted(folder.glob("*.txt")):
        for entry in ENTRY.finditer(file.read_text()):
            options = re.findall(r"--hash=sha256:[0-9a-f]{64}", entry[0])
            result.setdefault(canonical(entry[1]), []).extend(options)
    return result


def locked() -> dict[str, str]:
    """The version of each package; of two for different versions of Python the later one."""
    return {canonical(n): v for n, v in re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK.read_text())}


def names(requirements: Path) -> Iterator[str]:
    """The packages that a file of requirements names, and those of the files that it includes."""
    for line in requirements.read_text().splitlines():
        if line.startswith("-r "):
            yield from names(HERE / line.removeprefix("-r "))
        elif name := re.match(r"[\w.-]+", line):
            yield canonical(name[0])


def run(*command: str, env: Mapping[str, str] | None = None, output: bool = False) -> str:
    """The output of a command, if it is wanted; end with its exit code if it fails, after it has said why."""
    stdout = subprocess.PIPE if output else None
    done = subprocess.run(command, env=env, stdout=stdout, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


class Uv:
    """uv, in the locked version, with what pip is configured to."""

    def __init__(self, wanted: str, known: Mapping[str, list[str]], options: list[str]) -> None:
        given = pip_configuration()
        self.options, self.environment = configuration(given, options)
        self.constraints = [LOCK, *given.get("constraint", "").split()]
        try:
            installed = version("uv")
        except PackageNotFoundError:
            installed = ""
        if installed != wanted:
            with exact({"uv": wanted}, known) as file:
                run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install",
                    "--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement", file)  # fmt: skip

    def __call__(self, *arguments: str, output: bool = False) -> str:
        command = (sys.executable, "-m", "uv", "pip", "install", "--quiet")
        unique = dict.fromkeys((*self.options, *arguments))  # uv takes no flag twice
        return run(*command, *unique, env=self.environment, output=output)

    def install(
        self, versions: Mapping[str, str], known: Mapping[str, list[str]], *options: str
    ) -> None:
        """Install these packages and no others, each from a file with one of its known hashes."""
        if versions:
            with exact(versions, known) as file:
                self("--no-deps", "--require-hashes", *options, "--requirements", file)

    def resolved(self, wanted: list[str]) -> dict[str, str]:
        """The versions of the packages that would be installed: name and version as their files have them."""
        report = self("--dry-run", "--output-format=json", "--only-binary=:all:",
                      *(f"--constraint={path}" for path in self.constraints), *wanted, output=True)  # fmt: skip
        changes = json.loads(report)["changes"]
        return {
            canonical(change["name"]): change["version"]
            for change in changes
            if change["action"] == "installed"
        }


@contextmanager
def exact(versions: Mapping[str, str], known: Mapping[str, list[str]]) -> Iterator[str]:
    """A file of requirements with exactly these packages and their known hashes."""
    if missing := sorted(versions.keys() - known.keys()):
        raise SystemExit(
            f"error: {', '.join(missing)}: no hash in {HERE.name}/hashes, so it cannot be checked: "
            "expected an entry for every package of the lock; run `make lock`"
        )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "exact.txt"
        path.write_text("\n".join(f"{n}=={v} {' '.join(known[n])}" for n, v in versions.items()))
        yield str(path)


def configuration(
    given: Mapping[str, str], more: Iterable[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """The options and the environment of uv for what pip is given, and for `more` options of uv."""
    options = ["--index-strategy=unsafe-best-match"]  # as pip: the hashes decide what is right
    for name, option in (PLACES | OTHERS).items():
        options += [f"{option}={value}" for value in given.get(name, "").split()]
    if given.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        options.append("--no-index")
    if "PYTHONDONTWRITEBYTECODE" in os.environ:  # or each run would compile all that it imports
        options.append("--compile-bytecode")
    environment = {**os.environ, "UV_PYTHON": sys.executable}  # not that of another project
    if "cert" in given:
        environment.setdefault("SSL_CERT_FILE", given["cert"])
    if "proxy" in given:
        environment.setdefault("ALL_PROXY", given["proxy"])
    elsewhere = given.keys() & {*PLACES, "no-index"} or any(
        name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"))
        for name in environment
    )
    elsewhere = elsewhere or any(
        option.startswith((*PLACES.values(), "--no-index")) for option in more
    )
    torch = os.environ.get("TORCH") or "cpu"
    if torch not in {"cpu", "cuda"}:
        raise SystemExit(f"error: TORCH={torch}: expected cpu or cuda")
    if torch == "cpu" and sys.platform == "linux" and not elsewhere and find_spec("torch") is None:
        environment.setdefault("UV_TORCH_BACKEND", "cpu")
    return [*options, *more], environment


def pip_configuration() -> dict[str, str]:
    """The options of `pip install` that its files and the environment set."""
    listed = run(sys.executable, "-m", "pip", "config", "list", output=True)
    given: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in given:
            given[section][name] = literal_eval(value)
    return given["global"] | given["install"] | given[":env:"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Install locked packages by hash.")
    parser.add_argument("sets", nargs="+", metavar="SET")
    given, options = parser.parse_known_args()
    files = [HERE / f"{name}.txt" for name in given.sets if (HERE / f"{name}.txt").is_file()]
    single = [name for name in given.sets if not (HERE / f"{name}.txt").is_file()]
    versions, known = locked(), hashes()
    uv = Uv(versions["uv"], known, options)

    needed = {*single, *(name for file in files for name in names(file))}
    if sources := [name for name in SOURCE_ONLY if name in needed]:
        # Built with the locked setuptools, not with one that is fetched for the build.
        uv.install({"setuptools": versions["setuptools"]}, known, "--only-binary=:all:")
        built = {name: versions[name] for name in sources}
        uv.install(built, known, "--no-build-isolation")
    wanted = [*single, *(f"--requirements={file}" for file in files)]
    uv.install(uv.resolved(wanted), known, "--only-binary=:all:")


if __name__ == "__main__":
    main()
