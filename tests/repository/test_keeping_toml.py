"""What a `model.toml` may say of versions, and of how a model is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from pelton.errors import LoadFailed
from pelton.repository.model_toml import read_model_toml
from pelton.repository.scan import scan, scan_versions
from pelton.repository.versions import chosen_versions
from pelton.specs import ALL_VERSIONS, ModelSpec, VersionPolicy
from repository.folders import CLAIMS, toml, tree

DIGEST = "sha256:" + "0a" * 32
OTHER = "sha256:" + "0b" * 32


def keeping(folder: Path, text: str) -> dict[str, object]:
    return dict(read_model_toml(toml(folder, text), "net").keeping)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        keeping(folder, text)
    assert error.value.message.startswith("net/model.toml: ")
    assert "\n" not in error.value.message
    return error.value.message.removeprefix("net/model.toml: ")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ('"latest"', VersionPolicy(1)),
        ('"all"', ALL_VERSIONS),
        ("[3, 1, 3]", VersionPolicy(None, (1, 3))),
        ("{latest = 2}", VersionPolicy(2)),
    ],
)
def test_every_form_of_a_policy_is_read(tmp_path: Path, text: str, policy: VersionPolicy) -> None:
    assert keeping(tmp_path, f"policy = {text}") == {"policy": policy}


def test_every_other_key_is_read(tmp_path: Path) -> None:
    text = f'pinned = true\ndigest = "{DIGEST}"\n[version_labels]\nstable = 2\n"v1b-c_d" = 10\n'
    assert keeping(tmp_path, text) == {
        "pinned": True,
        "digest": {0: DIGEST},
        "version_labels": {"stable": 2, "v1b-c_d": 10},
    }
    assert keeping(tmp_path, "") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            (f"policy = {value}", 'it must be "latest", "all", a list of versions such as [1, 3]')
            for value in (
                '"newest"', "2", "[]", "[0]", "[-1]", "[1.0]", "[true]", '["1"]', "[1000000000]",
                "{latest = 0}", "{all = 1}", "{latest = 1, all = 1}", "{}", "true",
            )
        ),
        ("policy = " + str([*range(1, 1026)]), "it must be"),
        ("pinned = 1", "`pinned` is 1; it must be true or false"),
        ("version_labels = ['a']", "it must be a table of labels and the versions"),
        ("[version_labels]\nstable = '2'", "it must be a table of labels and the versions"),
        ("[version_labels]\nstable = 0", "it must be a table of labels and the versions"),
        *(
            (f"[version_labels]\n'{label}' = 2", "a label has 1 to 32 small letters, digits, _ and -")
            for label in ("2", "a/b", "Stable", "a.b", "latest", "a" * 33, "", "\u00e9")
        ),
        (f"digest = '{'0a' * 32}'", 'it must be "sha256:" and 64 hexadecimal digits'),
        (f"digest = '{DIGEST.upper()}'", "it must be"),
        (f"digest = '{DIGEST}\\n'", "it must be"),
        ("digest = {2 = 'x'}", "it must be"),
        (f"digest = {{latest = '{DIGEST}'}}", "it must be"),
        ("[options]\npinned = true", "write `pinned` at the top, above every [table]"),
        ("polcy = 'all'", "unknown key `polcy`; did you mean `policy`?"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_a_spec_has_what_was_said(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/m.onnx", "net/2/m.onnx", "plain/1/m.onnx")
    text = f'policy = "all"\npinned = true\ndigest = {{1 = "{DIGEST}", 2 = "{OTHER}"}}\n'
    toml(tmp_path / "net", text + "[version_labels]\nstable = 1\n")
    first, second, plain = scan_versions(tmp_path, CLAIMS)
    assert first.policy == second.policy == ALL_VERSIONS
    assert first.version_labels == second.version_labels == {"stable": 1}
    assert first.pinned
    assert second.pinned
    assert (first.digest, second.digest) == (DIGEST, OTHER)
    assert plain == ModelSpec("plain", 1, tmp_path / "plain/1/m.onnx", "onnx")


def test_a_versions_own_file_comes_first(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/m.onnx")
    toml(tmp_path / "net", "pinned = true")
    toml(tmp_path / "net/1", f'pinned = false\ndigest = "{DIGEST}"')
    (spec,) = scan(tmp_path, CLAIMS)
    assert (spec.pinned, spec.digest) == (False, DIGEST)


@pytest.mark.parametrize("text", ["policy = 'all'", "[version_labels]\nstable = 1"])
def test_a_version_does_not_speak_for_all(tmp_path: Path, text: str) -> None:
    tree(tmp_path, "net/1/m.onnx")
    toml(tmp_path / "net/1", text)
    with pytest.raises(LoadFailed) as error:
        scan(tmp_path, CLAIMS)
    key = text.split(" ")[0].strip("[]\n").split("]")[0]
    assert error.value.message == (
        f"net/1/model.toml: `{key}` speaks of all versions; write it into net/model.toml"
    )


@pytest.mark.parametrize(
    ("policy", "versions", "chosen"),
    [
        (VersionPolicy(), [2, 10, 9], (10,)),
        (VersionPolicy(2), [2, 10, 9], (9, 10)),
        (VersionPolicy(5), [2, 10], (2, 10)),
        (ALL_VERSIONS, [2, 10, 9], (2, 9, 10)),
        (VersionPolicy(None, (2, 3)), [1, 2, 10], (2,)),
        (VersionPolicy(None, (3,)), [1, 2], ()),
        (VersionPolicy(1, (2, 3)), [1, 2, 3, 4], (3,)),
        (VersionPolicy(), [], ()),
    ],
)
def test_a_policy_chooses(
    policy: VersionPolicy, versions: list[int], chosen: tuple[int, ...]
) -> None:
    assert chosen_versions(policy, versions) == chosen
