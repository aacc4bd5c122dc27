"""The file of signing keys: whose it has to be, what it may say, and that it is read again."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from pelton.errors import SettingsError
from pelton.trusted.algorithms import hmac_signer
from pelton.trusted.keys_file import KeysFile, read_keys

SECRET = "ab" * 32
GOOD = f'[robot-7]\nclient = "key1"\nhmac_sha256 = "{SECRET}"\n'

HAS_CRYPTOGRAPHY = importlib.util.find_spec("cryptography") is not None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "keys.toml", GOOD)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_keys_are_read(file: Path) -> None:
    (key,) = read_keys(file).values()
    assert (key.id, key.client) == ("robot-7", "key1")
    signature = hmac_signer(bytes.fromhex(SECRET))(b"message")
    assert key.check(b"message", signature)
    assert not key.check(b"massage", signature)
    assert not key.check(b"message", signature[:-1])


def test_a_client_may_have_several_keys(file: Path) -> None:
    written(file, GOOD + GOOD.replace("robot-7", "robot-7b").replace("ab", "cd"))
    assert {(key.id, key.client) for key in read_keys(file).values()} == {
        ("robot-7", "key1"),
        ("robot-7b", "key1"),
    }


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o700, 0o644, 0o660])
def test_a_file_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(SettingsError, match=rf"\(mode {mode:04o}\); run chmod 0600 on the file"):
        read_keys(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 4242, -1)
    with pytest.raises(SettingsError, match="belong to user 4242, but the server runs as user 0"):
        read_keys(file)


def test_a_link_is_refused(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(SettingsError, match="cannot read"):
        read_keys(link)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (fifo, tmp_path):
        with pytest.raises(SettingsError, match=r"ordinary file|cannot read"):
            read_keys(path)
    with pytest.raises(SettingsError, match="No such file"):
        read_keys(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there are no signing keys"),
        ("[", "not valid TOML"),
        ("\udcff", "not valid TOML"),
        (GOOD + GOOD, "not valid TOML"),
        ("robot = 5", "a table of its own"),
        (GOOD.replace("robot-7", '"a b"'), "an id has up to 64"),
        (GOOD.replace("robot-7", '""'), "an id has up to 64"),
        (GOOD.replace("client", "clint"), "has to have client"),
        (GOOD.replace('client = "key1"\n', ""), "has to have client"),
        (GOOD.replace("hmac_sha256", "hmac_md5"), "has to have client"),
        (GOOD + 'more = "x"', "has to have client"),
        (GOOD + f'ed25519 = "{SECRET}"', "has to have client"),
        (GOOD.replace("key1", ""), "client has to be the id"),
        (GOOD.replace('"key1"', "5"), "client has to be the id"),
        (GOOD.replace(SECRET, SECRET[2:]), "has to be 64 hex digits"),
        (GOOD.replace(SECRET, "xy" * 32), "has to be 64 hex digits"),
        (GOOD.replace(f'"{SECRET}"', "5"), "has to be 64 hex digits"),
        (GOOD.replace("hmac_sha256", "ed25519").replace(SECRET, "ab" * 31), "64 hex digits"),
    ],
)
def test_a_file_that_says_something_else_is_refused(file: Path, text: str, told: str) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match=told) as refused:
        read_keys(file)
    assert "abab" not in refused.value.message


def test_a_file_without_end_is_refused(file: Path) -> None:
    with file.open("ab") as more:
        more.truncate(1024 * 1024 + 1)
    with pytest.raises(SettingsError, match="more than 1048576 bytes"):
        read_keys(file)


def test_no_secret_shows_where_a_key_is_printed(file: Path) -> None:
    assert "abab" not in repr(read_keys(file))


def test_a_key_is_added_and_taken_out_while_serving(file: Path) -> None:
    keys = KeysFile(file)
    assert keys.find("robot-7") is not None
    assert keys.find("robot-8") is None
    written(file, GOOD.replace("robot-7", "robot-8"))
    assert keys.find("robot-7") is None
    assert keys.find("robot-8") is not None


def test_a_file_that_is_replaced_is_read_again(file: Path, tmp_path: Path) -> None:
    keys = KeysFile(file)
    assert keys.find("robot-7") is not None
    written(tmp_path / "new", GOOD.replace("robot-7", "robot-8")).rename(file)
    assert keys.find("robot-8") is not None


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.chmod(0o644),
        lambda file: file.unlink(),
        lambda file: file.write_text("["),
    ],
    ids=["open", "gone", "broken"],
)
def test_a_file_that_goes_bad_while_serving_holds_no_keys(file: Path, caplog, harm) -> None:
    keys = KeysFile(file)
    assert keys.find("robot-7") is not None
    harm(file)
    assert keys.find("robot-7") is None
    assert keys.find("robot-7") is None
    assert len(caplog.messages) == 1, "said once"
    assert "until that is mended, no signed object is taken" in caplog.text
    file.unlink(missing_ok=True)
    written(file, GOOD)
    assert keys.find("robot-7") is not None


def test_a_file_is_read_only_when_it_has_changed(file: Path, monkeypatch) -> None:
    keys = KeysFile(file)
    keys.find("robot-7")
    monkeypatch.setattr(os, "open", lambda *arguments: pytest.fail("read again"))
    assert keys.find("robot-7") is not None


@pytest.mark.skipif(HAS_CRYPTOGRAPHY, reason="cryptography is installed")
def test_a_public_key_says_which_package_it_needs(file: Path) -> None:
    written(file, GOOD.replace("hmac_sha256", "ed25519"))
    with pytest.raises(SettingsError, match="install it: pip install cryptography"):
        read_keys(file)


@pytest.mark.skipif(not HAS_CRYPTOGRAPHY, reason="needs cryptography")
def test_a_public_key_checks_what_its_private_key_signed(file: Path) -> None:
    from pelton.trusted import ed25519

    # The first test vector of RFC 8032, section 7.1.
    private = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    written(file, f'[robot-8]\nclient = "key1"\ned25519 = "{public}"\n')
    (key,) = read_keys(file).values()
    signature = ed25519.signer(private)(b"")
    assert signature.hex().startswith(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
    )
    assert key.check(b"", signature)
    assert not key.check(b"x", signature)
    assert not key.check(b"", signature[:32] + bytes(32))
    assert not key.check(b"", b"")
