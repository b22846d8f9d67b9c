"""Files appear whole or not at all, and what was there stays until then."""

import errno
import os
from pathlib import Path

import pytest

from ubp_sql.errors import BadInput
from ubp_sql.training.whole_file import check, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    to = tmp_path / "a.html"
    for data in (b"first", b"second"):
        check(to, "x")
        write_whole(to, data)
        assert to.read_bytes() == data
    assert list(tmp_path.iterdir()) == [to]
    to.chmod(0o600)
    write_whole(to, b"third")
    assert to.stat().st_mode & 0o777 == 0o600, "who may read it stays as it was"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    to = tmp_path / "a.html"
    to.write_bytes(b"first")

    def full(part: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(to, b"second")
    assert caught.value.filename == str(to)
    assert to.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [to]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    link.symlink_to(real)
    for data in (b"first", b"second"):
        write_whole(link, data)
        assert link.is_symlink()
        assert real.read_bytes() == data


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    """A device is not replaced by a file either; as root that would have taken /dev/full from the machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check(pipe, "x")
        write_whole(pipe, b"first")
        assert os.read(reader, 9) == b"first"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="is a directory") as caught:
        check(tmp_path, "x.html")
    assert str(tmp_path / "x.html") in (caught.value.hint or "")
    with pytest.raises(BadInput, match="there is no directory"):
        check(tmp_path / "no" / "x.html", "x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(BadInput, match="permission denied"):
        check(tmp_path / "x.html", "x")
