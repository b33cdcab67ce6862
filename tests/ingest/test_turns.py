"""Two builders of the same collection."""

from __future__ import annotations

import logging
import os
import threading
import time

import pytest

from rasteret_torch.errors import DeadlineExceededError
from rasteret_torch.ingest import turns
from rasteret_torch.ingest.shards import Shards


def test_the_second_builder_waits_and_says_for_whom(tmp_path, caplog):
    first = Shards(tmp_path / "shards")
    first.__enter__()
    threading.Timer(0.3, first.__exit__).start()
    with caplog.at_level(logging.WARNING), Shards(tmp_path / "shards") as second:
        assert second.has_waited
    assert f"process {os.getpid()} on" in caplog.text


def test_a_builder_that_is_stuck_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "SILENCE_S", 0.3)
    with Shards(tmp_path / "shards") as first:
        began = time.monotonic()
        with pytest.raises(
            DeadlineExceededError, match=rf"process {os.getpid()} on .*without any progress.*build again"
        ):
            Shards(tmp_path / "shards").__enter__()
        assert time.monotonic() - began < 60
        assert not first.has_waited
    with Shards(tmp_path / "shards") as third:
        assert not third.has_waited
