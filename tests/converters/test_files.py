import os
import stat
import sys
from pathlib import Path

import pytest

from kff_live.converters.files import whole
from kff_live.protocols.errors import UserError


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    with whole(path) as file:
        file.write("á\n")
        assert not path.exists()
    assert path.read_bytes() == "á\n".encode()
    assert os.listdir(tmp_path) == ["take.csv"]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    with whole(tmp_path / "take.npy", binary=True) as file:
        file.write(b"\r\n\xff")
    assert (tmp_path / "take.npy").read_bytes() == b"\r\n\xff"


@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path: Path, force: bool) -> None:
    path = tmp_path / "take.csv"
    if force:
        path.write_text("old")
    with pytest.raises(ValueError, match="broken"), whole(path, force=force) as file:
        file.write("half")
        raise ValueError("broken")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"take.csv": "old"} if force else {})


def test_what_exists_is_only_overwritten_by_force(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("old")
    with pytest.raises(UserError, match=r"take\.csv: it exists; --force overwrites it$"), whole(path):
        pass
    assert path.read_text() == "old"
    with whole(path, force=True) as file:
        file.write("new")
    assert path.read_text() == "new"


def test_what_has_come_to_exist_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    with pytest.raises(UserError, match="it exists"), whole(path) as file:
        file.write("mine")
        path.write_text("somebody else's")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"take.csv": "somebody else's"}


def test_a_folder_and_a_missing_folder_are_the_users_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is a folder"), whole(tmp_path, force=True):
        pass
    with pytest.raises(UserError, match="cannot be written: No such file"), whole(tmp_path / "no" / "take.csv"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_of_a_link_the_file_behind_it_is_written(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    with whole(link, force=True) as file:
        file.write("new")
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there is no device to write to")
def test_a_device_is_written_to_and_stays_one() -> None:
    with whole(Path("/dev/null")) as file:
        file.write("gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
