"""What a process may use of the machine, in containers too."""

from __future__ import annotations

import os

import pytest

from rasteret_torch.read import machine


@pytest.fixture
def quota(tmp_path, monkeypatch):
    """Writes the files of a control group, one text each, and has them looked at."""

    def write(*texts: str) -> None:
        paths = [tmp_path / str(number) for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        monkeypatch.setattr(machine, "_CGROUP_QUOTAS", ((str(tmp_path / "missing"),), tuple(map(str, paths))))
        machine.quota_cores.cache_clear()

    yield write
    machine.quota_cores.cache_clear()


def affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("texts", "cores"),
    [
        (("100000 100000\n",), 1),
        (("50000 100000\n",), 1),  # half a core is one
        (("100000\n", "100000\n"), 1),  # in two files
        (("max 100000\n",), None),
        (("-1\n", "100000\n"), None),
        (("6400000 100000\n",), None),  # more than there are
        (("\n",), None),
    ],
)
def test_cores_of_a_container(quota, texts, cores):
    quota(*texts)
    assert machine.core_count() == (cores or affinity())


def test_quotas_are_rounded_up(quota):
    quota("150000 100000")
    assert machine.quota_cores() == (2,)
