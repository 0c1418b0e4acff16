"""Install sets of requirements in the versions of lock.txt, and only files whose hashes are in hashes/.

    python requirements/install.py SET... [options of pip]

SET is a file beside this one (`serve` for serve.txt) or the name of one package. Three calls of pip:

1. Some packages are published as source only, and building one runs its code: they are installed first, by their hash.
2. A dry run resolves what else is missing, from wherever pip is configured to look: another index, a folder of wheels.
   It takes no source, so it runs nothing of what it finds.
3. What it resolved is installed by version and hash. pip ends with an error if a file has another hash.

pip cannot check hashes in one call here: the lock is for all platforms, and which packages of it are needed depends on
the build of torch that is found. Packages that are installed in the locked version already stay as they are, so a build
of one's own is installed before this.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
LOCK = HERE / "lock.txt"
SOURCE_ONLY = (
    "antlr4-python3-runtime",
    "jsonpath-rw",
    "pyspark",
)  # the sets that need them name them
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


def pip(*arguments: str) -> None:
    """Run pip; end with its exit code if it fails, after it has said why."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if code := subprocess.run([*command, *arguments], check=False).returncode:
        raise SystemExit(code)


def install(versions: Mapping[str, str], known: Mapping[str, list[str]], *options: str) -> None:
    """Install these packages and no others, each from a file with one of its known hashes."""
    if missing := sorted(versions.keys() - known.keys()):
        raise SystemExit(
            f"error: {', '.join(missing)}: no hash in {HERE.name}/hashes, so it cannot be checked: "
            "expected an entry for every package of the lock; run `make lock`"
        )
    lines = [f"{name}=={version} {' '.join(known[name])}" for name, version in versions.items()]
    if not lines:
        return
    with TemporaryDirectory() as folder:
        exact = Path(folder) / "exact.txt"
        exact.write_text("\n".join(lines))
        pip("install", "--no-deps", "--require-hashes", *options, "--requirement", str(exact))


def resolved(wanted: list[str], *options: str) -> dict[str, str]:
    """The versions of the packages that pip would install: name and version as their files have them."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip("install", "--dry-run", "--only-binary=:all:", f"--report={report}", f"--constraint={LOCK}",
            *options, *wanted)  # fmt: skip
        entries = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
    return {canonical(entry["name"]): entry["version"] for entry in entries}


def main() -> None:
    parser = argparse.ArgumentParser(description="Install locked packages by hash.")
    parser.add_argument("sets", nargs="+", metavar="SET")
    given, options = parser.parse_known_args()
    files = [HERE / f"{name}.txt" for name in given.sets if (HERE / f"{name}.txt").is_file()]
    single = [name for name in given.sets if not (HERE / f"{name}.txt").is_file()]
    versions, known = locked(), hashes()

    needed = {*single, *(name for file in files for name in names(file))}
    if sources := [name for name in SOURCE_ONLY if name in needed]:
        # Built with the locked setuptools, not with one that pip fetches for the build.
        install({"setuptools": versions["setuptools"]}, known, "--only-binary=:all:", *options)
        build = ("--use-pep517", "--no-build-isolation")
        install({name: versions[name] for name in sources}, known, *build, *options)
    wanted = [*single, *(f"--requirement={file}" for file in files)]
    install(resolved(wanted, *options), known, "--only-binary=:all:", *options)


if __name__ == "__main__":
    main()
