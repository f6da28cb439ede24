"""Compiled models on disk: found again, and never taken for those of other code, compilers or processors."""

import os
import subprocess

import pytest

from posterity.inference.engine.lanes import build, cache

CODE = 'extern "C" int answer() {{ return {0}; }}'


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A cache of its own; the compiler's calls are counted."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    build.library.cache_clear()
    counted, run = [], subprocess.run

    def watched(command, **settings):
        if "-shared" in command:
            counted.append(command)
        return run(command, **settings)

    monkeypatch.setattr(build.subprocess, "run", watched)
    yield counted
    build.library.cache_clear()


def answer(number):
    build.library.cache_clear()  # as in a new process
    return build.library(CODE.format(number)).answer()


def test_the_same_code_is_compiled_once_and_other_code_again(calls, tmp_path):
    assert [answer(3), answer(3), answer(4)] == [3, 3, 4]
    assert len(calls) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_another_compiler_flag_or_processor_is_another_file(monkeypatch):
    entries = {cache.entry("x", ("g++", "-O2")), cache.entry("y", ("g++", "-O2")), cache.entry("x", ("g++", "-O3"))}
    monkeypatch.setattr(cache, "processor", lambda: "another one")
    entries.add(cache.entry("x", ("g++", "-O2")))
    monkeypatch.setattr(cache, "version", lambda compiler: "g++ 99")
    entries.add(cache.entry("x", ("g++", "-O2")))
    assert len(entries) == 5


def test_a_damaged_file_is_compiled_again(calls):
    path = cache.entry(CODE.format(7), (build.compiler(), *build.FLAGS))
    path.parent.mkdir()
    path.write_bytes(b"no library")
    assert answer(7) == 7
    assert len(calls) == 1
    assert path.read_bytes().startswith(b"\x7fELF")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to any folder")
def test_a_folder_that_cannot_be_written_does_not_matter(calls, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    assert [answer(5), answer(5)] == [5, 5]
    assert len(calls) == 2


def test_a_cache_that_is_a_file_does_not_matter(calls, tmp_path):
    (tmp_path / "cache").write_text("")
    assert [answer(5), answer(5)] == [5, 5]
    assert len(calls) == 2


def test_the_oldest_files_are_removed(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 2)
    for number in range(4):
        answer(number)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert answer(3) == 3
    assert len(calls) == 4
