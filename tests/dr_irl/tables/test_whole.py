"""Files of users: the old one or the new one, never half of one, and the same link and mode."""

import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from dr_irl.tables.whole import writing_whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of a user's, readable by that user alone."""
    (path := tmp_path / "scored.csv").write_text("old")
    path.chmod(0o600)
    return path


def write(path: Path, text: str = "new") -> None:
    with writing_whole(path) as stream:
        stream.write(text.encode())


def test_a_new_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    with writing_whole(tmp_path / "new.csv") as stream:
        stream.write(b"half")
        assert not (tmp_path / "new.csv").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    with pytest.raises(RuntimeError), writing_whole(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert (path.read_text(), list(path.parent.iterdir())) == ("old", [path])


def test_a_file_keeps_its_mode(path: Path) -> None:
    write(path)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (link := elsewhere / "latest.csv").symlink_to(path)
    write(link)
    assert (link.readlink(), path.read_text(), list(elsewhere.iterdir())) == (path, "new", [link])


def test_a_link_to_a_file_that_is_not_there_yet_stays_a_link(tmp_path: Path) -> None:
    (link := tmp_path / "latest.csv").symlink_to(tmp_path / "new.csv")
    write(link)
    assert (link.is_symlink(), (tmp_path / "new.csv").read_text()) == (True, "new")


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    writing = Thread(target=write, args=(pipe,))
    writing.start()
    assert pipe.read_text() == "new"
    writing.join()
    assert pipe.is_fifo()
