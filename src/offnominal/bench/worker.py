"""A process that does one task after another, so that many short runs do not each pay for its start."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self


class Worker:
    """Runs a command that reads one JSON task a line and answers each with one line of JSON.

    An answer with the key ``error`` is a failure of that task. A process that dies or takes too long is
    started again for the next task.

    Parameters
    ----------
    command : sequence of str
    timeout : float
        Seconds a task may take.
    environment : mapping, optional
        Environment variables of the process; this process's where left out.
    """

    def __init__(
        self, command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = list(command)
        self._timeout = timeout
        self._environment = None if environment is None else dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Do a task.

        Raises
        ------
        RuntimeError
            It failed, or took too long; the message is the last of what was said.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if late.is_set():
            self.close()
            raise RuntimeError(f"took longer than {self._timeout:.0f} s")
        try:
            answer: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            said = self._said()
            self.close()
            raise RuntimeError(said) from None
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                encoding="utf-8",
                env=self._environment,
            )
        return self._process

    def _said(self) -> str:
        if self._errors is None:
            return "ended without an answer"
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "ended without an answer"

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        continue
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._errors is not None:
            self._errors.close()
        self._process = self._errors = None
