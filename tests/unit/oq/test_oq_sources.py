from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hazard_store.errors import (
    NotADatastoreError,
    NotStorableError,
    SourceChangedError,
    SourceError,
    UnfinishedError,
    UsageError,
)
from hazard_store.oq import open_calculation
from hazard_store.oq.trial import open_tried
from hazard_store.sources import copies, folder_of, zips
from hazard_store.sources.prefixes import PREFIXES_VARIABLE
from tests.fuzz import archives

Build = Callable[..., Path]


def zipped(path: Path, target: Path, name: str = "calc_1.hdf5", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", method) as zipper:
        zipper.writestr(zipfile.ZipInfo(name), path.read_bytes(), method)
    return target


def refusal(source: object) -> str:
    with pytest.raises(NotADatastoreError) as caught:
        open_calculation(source, strict=False)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_plain_file_and_its_zip_give_the_same_calculation(sound_hdf5: Path, tmp_path: Path) -> None:
    # Detected by content: neither has the suffix of what it is.
    packed = zipped(sound_hdf5, tmp_path / "archive.dat", "deep/er/any name.HDF5")
    with open_calculation(sound_hdf5) as plain, open_calculation(packed) as unpacked:
        assert plain.fingerprint == unpacked.fingerprint
        assert plain.fingerprint == "sha256:" + hashlib.sha256(sound_hdf5.read_bytes()).hexdigest()
        assert unpacked.source == str(packed)
        assert unpacked.stamp.size == packed.stat().st_size
        assert plain.describe() == unpacked.describe()
        np.testing.assert_array_equal(plain.read("stats", 0, 3), unpacked.read("stats", 0, 3))


def test_companions_of_macos_and_folders_do_not_count(sound_hdf5: Path, tmp_path: Path) -> None:
    target = tmp_path / "mac.zip"
    with zipfile.ZipFile(target, "w") as zipper:
        zipper.mkdir("calc.hdf5")
        zipper.writestr("__MACOSX/._calc_1.hdf5", b"resource fork")
        zipper.writestr("._calc_1.hdf5", b"resource fork")
        zipper.writestr("README.txt", b"about")
        zipper.write(sound_hdf5, "calc_1.hdf5")
    with open_calculation(target) as calculation:
        assert len(calculation.sites) == 3


def test_zip_without_a_datastore(tmp_path: Path) -> None:
    target = tmp_path / "empty.zip"
    with zipfile.ZipFile(target, "w") as zipper:
        zipper.writestr("README.txt", b"about")
    assert "holds no *.hdf5 file" in refusal(target)
    with zipfile.ZipFile(tmp_path / "bare.zip", "w"):
        pass
    assert "holds no *.hdf5 file" in refusal(tmp_path / "bare.zip")


def test_zip_with_two_datastores_names_them(sound_hdf5: Path, tmp_path: Path) -> None:
    target = tmp_path / "two.zip"
    with zipfile.ZipFile(target, "w") as zipper:
        zipper.write(sound_hdf5, "calc_1.hdf5")
        zipper.write(sound_hdf5, "calc_2.hdf5")
    reason = refusal(target)
    assert "calc_1.hdf5" in reason
    assert "calc_2.hdf5" in reason


@pytest.mark.parametrize(
    "name", ["../calc_1.hdf5", "/tmp/calc_1.hdf5", "a/../../calc_1.hdf5", "C:/calc_1.hdf5", "..\\x.hdf5"]
)
def test_zip_with_an_unsafe_member_name(name: str, sound_hdf5: Path, tmp_path: Path) -> None:
    assert "unsafe name" in refusal(zipped(sound_hdf5, tmp_path / "evil.zip", name))


def test_encrypted_zip(sound_hdf5: Path, tmp_path: Path) -> None:
    target = zipped(sound_hdf5, tmp_path / "locked.zip")
    content = bytearray(target.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    target.write_bytes(content)
    assert "encrypted" in refusal(target)


def test_zip_with_a_damaged_member(sound_hdf5: Path, tmp_path: Path) -> None:
    target = zipped(sound_hdf5, tmp_path / "damaged.zip", method=zipfile.ZIP_STORED)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 0xFF
    target.write_bytes(content)
    assert "damaged zip archive" in refusal(target)


def test_truncated_zip(sound_hdf5: Path, tmp_path: Path) -> None:
    target = zipped(sound_hdf5, tmp_path / "cut.zip")
    target.write_bytes(target.read_bytes()[:-200])
    assert "damaged zip archive" in refusal(target)


def test_zip_of_something_else_named_hdf5(tmp_path: Path) -> None:
    target = tmp_path / "text.zip"
    with zipfile.ZipFile(target, "w") as zipper:
        zipper.writestr("calc_1.hdf5", b"no HDF5 at all")
    assert "cannot be opened as HDF5" in refusal(target)


def test_too_little_space_is_told_before_unpacking(
    sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = zipped(sound_hdf5, tmp_path / "calc.zip")
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "set TMPDIR to a larger disk" in refusal(target)


@pytest.fixture
def unpacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a member was unpacked")

    monkeypatch.setattr(copies.tempfile, "TemporaryFile", refuse)


@pytest.mark.usefixtures("unpacks_nothing")
@pytest.mark.parametrize("seed", range(4))
def test_a_bomb_is_refused_before_unpacking(sound_hdf5: Path, tmp_path: Path, seed: int) -> None:
    target = tmp_path / "bomb.zip"
    target.write_bytes(archives.bomb(sound_hdf5.read_bytes(), random.Random(seed)))
    assert target.stat().st_size < archives.BOMB_BYTES / zips.MAX_RATIO
    assert "MB packed into" in refusal(target)


def test_how_densely_a_member_may_be_packed(sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = zipped(sound_hdf5, tmp_path / "calc.zip")
    with zipfile.ZipFile(target) as zipper:
        (info,) = zipper.infolist()
    ratio = info.file_size / info.compress_size
    monkeypatch.setattr(zips, "RATIO_FREE_BYTES", info.file_size - 1)
    monkeypatch.setattr(zips, "MAX_RATIO", ratio * 0.99)
    assert "MB packed into" in refusal(target)
    monkeypatch.setattr(zips, "MAX_RATIO", ratio * 1.01)
    open_calculation(target).close()
    monkeypatch.setattr(zips, "MAX_RATIO", ratio * 0.99)
    monkeypatch.setattr(zips, "RATIO_FREE_BYTES", info.file_size)
    open_calculation(target).close()
    monkeypatch.setattr(zips, "MAX_UNPACKED_BYTES", info.file_size - 1)
    assert "MB packed into" in refusal(target)


@pytest.mark.usefixtures("unpacks_nothing")
def test_a_member_that_says_it_is_packed_into_more_than_the_archive_has(sound_hdf5: Path, tmp_path: Path) -> None:
    target = zipped(sound_hdf5, tmp_path / "lying.zip")
    content = bytearray(target.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 20
    content[place : place + 8] = (2**31).to_bytes(4, "little") * 2
    target.write_bytes(content)
    assert "2,147 MB packed into 0.0" in refusal(target)


def test_a_list_of_members_beyond_any_archive_of_a_datastore(
    sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "many.zip"
    with zipfile.ZipFile(target, "w") as zipper:
        zipper.write(sound_hdf5, "calc_1.hdf5")
        for number in range(1_000):
            zipper.writestr(f"{number:04}", b"")
        list_bytes = sum(46 + len(info.filename) for info in zipper.infolist())
    monkeypatch.setattr(zips, "MAX_DIRECTORY_BYTES", list_bytes)
    open_calculation(target).close()
    monkeypatch.setattr(zips, "MAX_DIRECTORY_BYTES", list_bytes - 1)
    assert f"its list of members is said to have {list_bytes:,} bytes" in refusal(target)


def test_nothing_is_left_behind_even_by_a_kill(sound_hdf5: Path, tmp_path: Path) -> None:
    target = zipped(sound_hdf5, tmp_path / "calc.zip")
    folder = tmp_path / "temporary"
    folder.mkdir()
    program = f"""
        import os, signal
        from hazard_store.oq import open_calculation
        calculation = open_calculation({str(target)!r})
        assert calculation.read("stats", 0, 3).size
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=False)
    assert finished.returncode == -9
    assert list(folder.iterdir()) == []


def test_unpacked_file_goes_away_on_close(sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with open_calculation(zipped(sound_hdf5, tmp_path / "calc.zip")):
        assert list(folder.iterdir()) == []


def test_calculation_number_is_looked_up_in_the_data_folder(
    sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OQ_DATADIR", str(tmp_path))
    with open_calculation("1") as calculation:
        assert calculation.source == str(sound_hdf5)
    assert "calculation 2 is not in the engine's data folder" in refusal("2")
    monkeypatch.delenv("OQ_DATADIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "oqdata").mkdir()
    sound_hdf5.rename(tmp_path / "oqdata" / "calc_7.hdf5")
    with open_calculation("7") as calculation:
        assert calculation.source.endswith("oqdata/calc_7.hdf5")


def test_a_file_named_like_a_number_is_that_file(
    sound_hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound_hdf5.rename(tmp_path / "12")
    with open_calculation("12") as calculation:
        assert calculation.source == str(tmp_path / "12")


def test_what_cannot_be_read_at_all(tmp_path: Path, sound_hdf5: Path) -> None:
    assert "no such file" in refusal(tmp_path / "missing.hdf5")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.hdf5").touch()
    assert "is empty" in refusal(tmp_path / "empty.hdf5")
    (tmp_path / "text.hdf5").write_text("a text")
    assert "neither an HDF5 file nor a zip" in refusal(tmp_path / "text.hdf5")
    (tmp_path / "cut.hdf5").write_bytes(sound_hdf5.read_bytes()[:3000])
    assert "truncated" in refusal(tmp_path / "cut.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["results"] = [1, 2]
    assert "not a datastore of OpenQuake" in refusal(tmp_path / "other.hdf5")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


UNREADABLE = ["x" * 300, "a/" * 3000, "1" * 300, "1" * 5000, "~no.such.user/calc_1.hdf5", "a\0b"]


@pytest.mark.parametrize("text", UNREADABLE, ids=range(len(UNREADABLE)))
@pytest.mark.parametrize("prefixes", [None, "/"])
def test_a_path_that_the_system_does_not_take_is_a_source_error(
    text: str, prefixes: str | None, sound_hdf5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if prefixes:
        monkeypatch.setenv(PREFIXES_VARIABLE, prefixes)
    assert "no such file" in refusal(text)
    with pytest.raises(SourceError, match="no such file"):
        open_tried(sound_hdf5, parent=text)
    with pytest.raises(UsageError):
        folder_of(text)


def test_a_folder_that_may_not_be_searched_is_a_source_error(sound_hdf5: Path) -> None:
    sound_hdf5.parent.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            # Root may search all folders.
            os.seteuid(65534)
        assert "Permission denied" in refusal(sound_hdf5)
        with pytest.raises(UsageError, match="Permission denied"):
            folder_of(str(sound_hdf5.parent / "night"))
    finally:
        os.seteuid(user)
        sound_hdf5.parent.chmod(0o700)


def test_links_in_a_circle_are_a_source_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "no such file" in refusal(tmp_path / "a")
    monkeypatch.setenv(PREFIXES_VARIABLE, str(tmp_path))
    assert "no such file" in refusal(tmp_path / "a")


@pytest.mark.parametrize("while_read", [True, False])
@pytest.mark.parametrize("user_block", [0, 1024])
def test_a_file_that_a_program_writes_to_is_unfinished(
    while_read: bool, user_block: int, data_dir: Path, tmp_path: Path
) -> None:
    path, killed = tmp_path / "calc_1.hdf5", tmp_path / "calc_2.hdf5"
    with h5py.File(data_dir / "custom_ids.hdf5") as source, h5py.File(path, "w", libver="latest") as file:
        for name in source:
            source.copy(name, file)
        for name, value in source.attrs.items():
            file.attrs[name] = value
    content = path.read_bytes()
    path.write_bytes(bytes(user_block) + content)
    with h5py.File(path, "r+", libver="latest") as file:
        if while_read:
            file.swmr_mode = True
        file.flush()
        with pytest.raises(UnfinishedError, match="the engine is at work on it, or was stopped"):
            open_calculation(path)
        killed.write_bytes(path.read_bytes())
    open_calculation(path).close()
    for left in (killed, zipped(killed, tmp_path / "killed.zip")):
        with pytest.raises(UnfinishedError, match="wait until it has ended, or run the calculation again"):
            open_calculation(left)


@pytest.mark.parametrize("locking", [None, True, False, "best-effort"])
def test_it_is_open_beside_other_readers_of_the_same_process(locking: object, sound_hdf5: Path) -> None:
    with h5py.File(sound_hdf5, locking=locking) as file, open_calculation(sound_hdf5) as calculation:
        np.testing.assert_array_equal(calculation.read("stats", 0, 3), file["hcurves-stats"][:])
    with open_calculation(sound_hdf5) as calculation, h5py.File(sound_hdf5, locking=locking) as file:
        np.testing.assert_array_equal(calculation.read("stats", 0, 3), file["hcurves-stats"][:])


def test_it_hinders_no_engine_that_opens_the_file_for_writing(sound_hdf5: Path) -> None:
    program = f"import h5py; h5py.File({str(sound_hdf5)!r}, 'r+', locking=True).close()"
    with open_calculation(sound_hdf5):
        subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_cut_off_while_it_is_open_is_not_made_up(sound_hdf5: Path) -> None:
    with h5py.File(sound_hdf5) as file:
        start = file["hcurves-stats"].id.get_offset()
    with open_calculation(sound_hdf5) as calculation:
        os.truncate(sound_hdf5, start + 10)
        with pytest.raises(NotStorableError, match="cannot be read at sites 0 to 3"):
            calculation.read("stats", 0, 3)


def test_a_changed_source_is_noticed(sound_hdf5: Path) -> None:
    with open_calculation(sound_hdf5) as calculation:
        calculation.check_unchanged()
        os.utime(sound_hdf5, ns=(1, 1))
        with pytest.raises(SourceChangedError, match="changed while in use"):
            calculation.check_unchanged()
        with pytest.raises(SourceChangedError, match="changed while in use"):
            _ = calculation.fingerprint
        sound_hdf5.unlink()
        with pytest.raises(SourceChangedError, match="no longer there"):
            calculation.check_unchanged()


def test_a_read_only_file_opens(sound_hdf5: Path) -> None:
    sound_hdf5.chmod(0o400)
    with open_calculation(sound_hdf5) as calculation:
        assert calculation.checksum32 == 1234
