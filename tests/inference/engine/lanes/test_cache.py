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
    build.compile_source.cache_clear()
    counted, run = [], subprocess.run

    def watched(command, **settings):
        if "-shared" in command:
            counted.append(command)
        return run(command, **settings)

    monkeypatch.setattr(build.subprocess, "run", watched)
    yield counted
    build.compile_source.cache_clear()


def answer(number):
    build.compile_source.cache_clear()  # as in a new process
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


def test_the_cache_can_be_switched_off(calls, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "off")
    assert [answer(5), answer(5)] == [5, 5]
    assert len(calls) == 2


def test_other_flags_are_another_library_in_one_process(calls, monkeypatch):
    code = 'extern "C" int answer() { return ANSWER; }'
    for number in (1, 2, 1):
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-UANSWER", f"-DANSWER={number}"))
        assert build.library(code).answer() == number


def test_the_files_not_used_for_longest_are_removed(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 2)
    for seconds, number in enumerate((0, 1, 0, 2)):  # 1 is made after 0 but used before it
        answer(number)
        path = cache.entry(CODE.format(number), (build.compiler(), *build.FLAGS))
        assert path.stat().st_mtime > 10**9  # marked at this use
        os.utime(path, (seconds, seconds))
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert len(calls) == 3
    assert [answer(2), answer(0), answer(1)] == [2, 0, 1]
    assert len(calls) == 4
