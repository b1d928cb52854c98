from __future__ import annotations

import pytest

from offnominal.core import progress
from offnominal.core.progress import say, shown, track


def test_library_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), label="Fitting")) == [0, 1, 2]
    say("hello")
    assert capsys.readouterr() == ("", "")


def test_plain_lines_off_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with shown():
        say("hello")
        assert list(track(iter("ab"), total=2, label="Fitting")) == ["a", "b"]
        assert list(track(iter("a"), label="Looking")) == ["a"]
    assert capsys.readouterr() == ("", "hello\nFitting: 1 of 2\nFitting: 2 of 2\nLooking: 1\n")


def test_few_lines_for_quick_work(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        list(track(range(1000), label="Fitting"))
    assert capsys.readouterr().err == ""


def test_shown_and_silent_nest(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        with shown(False):
            say("inner")
        say("outer")
    say("after")
    assert capsys.readouterr().err == "outer\n"


def test_bar_on_a_terminal_yields_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with shown():
        assert list(track(range(5), label="Fitting")) == [0, 1, 2, 3, 4]
    assert "Fitting" in screen.getvalue()


def test_break_out_of_the_bar_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown():
        for entry in track(range(5)):
            if entry == 2:
                break
    assert entry == 2
