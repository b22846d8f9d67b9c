"""A slice of the fuzzer, another one each day, and proof that the fuzzer finds what it is there to find."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import runner
from tests.fuzz import seeds as seed_files
from tests.fuzz.edits import MOST_BYTES, PLAIN, other_format
from tests.fuzz.giants import GIANTS
from tests.fuzz.judge import judge
from tests.fuzz.mutants import KINDS, Mutant, Seeds, mutant
from tests.fuzz.targets import READERS

MUTANTS = 5000
TARGETS = [reader.target for reader in READERS.values()]


@pytest.fixture(scope="module")
def seeds() -> Seeds:
    return seed_files.make(list(READERS))


def test_a_slice(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of the day's seed, or of UBP_FUZZ_SEED; `python -m tests.fuzz --replay FILE` says what of a mutant is wrong."""
    seed = int(os.environ.get("UBP_FUZZ_SEED") or f"{datetime.now(UTC):%Y%m%d}")
    report = runner.run(MUTANTS, seed, keep=tmp_path_factory.getbasetemp() / "fuzz", oracle=0.01)
    assert report.findings == [], f"seed {seed}"
    assert report.mutants == MUTANTS
    assert report.counts["refused"] + report.counts["accepted"] == MUTANTS
    assert report.counts["accepted"] > MUTANTS // 50, "a fuzzer whose mutants are all refused sees no scorer"
    assert report.counts["equal"] > 0, "no library answered"


def test_seeds_are_let_in(seeds: Seeds) -> None:
    for name, found in seeds.items():
        assert len(found) > 2
        for k, data in enumerate(found):
            assert judge(Mutant(name, data), 0, None).accepted, (name, k)


def test_a_mutant_is_the_same_again(seeds: Seeds) -> None:
    made = [mutant(TARGETS, seeds, 5, index) for index in range(300)]
    again = seed_files.make(list(READERS))
    assert again == seeds
    assert made == [mutant(TARGETS, again, 5, index) for index in range(300)]
    assert {found.target for found in made} == set(READERS)
    assert len({found.data for found in made}) > 280


def test_mutants_stay_small(seeds: Seeds) -> None:
    assert all(len(mutant(TARGETS, seeds, 6, index).data) <= MOST_BYTES for index in range(2000))


def test_edits_take_any_bytes() -> None:
    random = Random(3)
    for kind in KINDS.values():
        for edit in (*kind.own, *PLAIN, other_format):
            for data in (b"", b"{", b"tree\n", b"\0" * 70, random.randbytes(300)):
                assert isinstance(edit(random, data, [data]), bytes)
        if kind.mend is not None:
            assert isinstance(kind.mend(random, b""), bytes)


# What is wrong with the reading of a mutant, and what a finding says of it.
FAULTS = [
    ("import ctypes; ctypes.string_at(8)", "crash, SIGSEGV"),
    ("import os; os._exit(7)", "crash, status 7"),
    ("while True: pass", "hang"),
    ("bytearray(1 << 30)", "memory"),
    ("[][1]", "IndexError"),
    ("raise SystemExit", "SystemExit"),
    ("open('/etc/hostname')", "opened"),
    ("open(__file__ + '.py', 'w')", "opened"),
    ("import subprocess; subprocess.run(['true'])", "opened"),
    ("raise errors.BadInput('tree 1: x')", "refused by BadInput"),
    ("raise errors.InvalidModel('wrong')", "without a place"),
    (r"raise errors.InvalidModel('tree 1: a\nb')", "not printable"),
    ("raise errors.InvalidModel('tree 1: ' + 1000 * 'x')", "long"),
    ("LinearModel.all_packed = wrong_once; return Read(SOUND)", "one row and batch differ"),
]
FAULTY = """
from tests.fuzz import targets, worker
from tests.fuzz.targets import READERS, Read
from ubp_sql import errors
from ubp_sql.models.linear import LinearModel

SOUND, at = b"", -1
reader, examine, right = READERS["linear"], worker.examine, LinearModel.all_packed

def wrong_once(self, packed):
    LinearModel.all_packed = right
    return [0.125] * self.outputs

def read(data):
    global SOUND
    SOUND = SOUND or data  # what is read first is a seed
    if 0 <= at < len(FAULTS):
        return FAULTS[at]()
    return reader.read(data)

def examined(found, index, oracle):
    global at
    at = index
    return examine(found, index, oracle)

worker.examine = examined
READERS["linear"] = reader._replace(read=read)
"""


def test_faults_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is found and its mutant kept, and the mutants after it are judged all the same."""
    code = [f"def fault_{k}():\n    {line}\n" for k, (line, _) in enumerate(FAULTS)]
    names = f"FAULTS = [{', '.join(f'fault_{k}' for k in range(len(FAULTS)))}]\n"
    (tmp_path / "faulty.py").write_text(FAULTY + "".join(code) + names + "worker.main()\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{runner.ROOT}")
    report = runner.run(60, 1, only=["linear"], keep=tmp_path / "kept", oracle=0, module="faulty")
    assert report.mutants == 60
    by_index = {int(line.rstrip("]").rpartition(".")[2]): line for line in report.findings}
    assert len(report.findings) == len(by_index) == len(FAULTS)
    for index, (_, expected) in enumerate(FAULTS):
        assert expected in by_index[index]
        assert (tmp_path / "kept" / f"linear.1.{index}").exists()
    assert report.counts["refused"] + report.counts["accepted"] == 60 - len(FAULTS)


def test_giants_are_refused_in_no_time() -> None:
    """Each under a limit of memory, in a process of their own."""
    command = [sys.executable, "-m", "tests.fuzz.giants"]
    done = subprocess.run(command, cwd=runner.ROOT, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"] for line in found] == list(GIANTS)
    assert [line for line in found if line["said"] in ("MemoryError", "accepted") or line["seconds"] > 3] == []
