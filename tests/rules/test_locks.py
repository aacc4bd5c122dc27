"""The lock files hold what pyproject.toml asks for: every version with its hashes, and no host."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rules.source_tree import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

_ENTRY = re.compile(r"(?m)^(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?P<rest>.*(?:\n +.*)*)")


def locked(text: str) -> dict[str, str]:
    """Return name -> version of a lock file's text.

    Raises:
        ValueError: a line that is no comment, no entry and no hash of one, or an entry unhashed.
    """
    versions = {}
    for entry in _ENTRY.finditer(text):
        if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry["rest"]):
            raise ValueError(f"{entry['name']} has no hash")
        if entry["name"] in versions:
            raise ValueError(f"{entry['name']} is locked twice")
        versions[entry["name"]] = entry["version"]
    left = [line for line in _ENTRY.sub("", text).splitlines() if line and line[0] != "#"]
    if left:
        raise ValueError(f"not an entry: {left[0]}")
    return versions


def read_lock(name: str) -> dict[str, str]:
    return locked((REQUIREMENTS / f"{name}.lock").read_text(encoding="utf-8"))


def wanted(*groups: str) -> list[Requirement]:
    """Return what the core, the extra `server` and dependency groups ask for."""
    project = PROJECT["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["server"]
    lines += [line for group in groups for line in PROJECT["dependency-groups"][group]]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(("lock", "groups"), [("server", ["build"]), ("test", ["build", "test"])])
def test_a_lock_holds_what_the_project_asks_for(lock: str, groups: list[str]) -> None:
    versions = read_lock(lock)
    for requirement in wanted(*groups):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {lock}.lock: requirements/renew.sh"
        assert requirement.specifier.contains(Version(version)), f"{requirement}, locked {version}"


def test_tests_run_against_the_versions_that_serve() -> None:
    server, test = read_lock("server"), read_lock("test")
    assert server.items() <= test.items()


def test_the_build_backend_is_the_locked_one() -> None:
    (backend,) = PROJECT["build-system"]["requires"]
    assert backend == f"hatchling=={read_lock('server')['hatchling']}"


def test_torch_is_pinned_beside_the_lock() -> None:
    lines = (REQUIREMENTS / "torch.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = [Requirement(line) for line in lines if not line.startswith("#")]
    (asked,) = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["torch"]]
    (exact,) = pin.specifier
    assert (pin.name, exact.operator) == ("torch", "==")
    assert asked.specifier.contains(exact.version)


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.[lt]*")), ids=lambda path: path.name)
def test_no_lock_names_a_host_or_a_folder(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?m)://|^\s*-(?!-hash)\S*|@ |file:", text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("numpy==2.0", "no hash"),
        ("numpy==2.0 \\\n    --hash=md5:00", "no hash"),
        (f"a==1 \\\n    --hash=sha256:{'0' * 64}\n" * 2, "twice"),
        ("numpy>=2.0", "not an entry"),
        ("--index-url x", "not an entry"),
    ],
)
def test_a_faulty_lock_is_found(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        locked(text)
