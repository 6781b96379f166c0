import io
import os
import subprocess
import sys
from typing import cast

import pytest
from rich.table import Table

from abaw.callbacks.evaluation_report import print_whole
from abaw.streams import prepare_streams

HELP = "import sys; from abaw.cli import main; sys.exit(main(['--help']))"
MANY = (
    "import sys; from abaw.streams import prepare_streams; prepare_streams(); print('–\\udcff\\n' * 99_999);"
)
SPILL = "import os; os.write(1, b'spilled'); os.write(2, b'spilled')"  # as libraries in C do
END = "print('ended', file=sys.stderr)"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_no_character_ends_a_command(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    prepare_streams()
    table = Table(caption="95 % … \udcff")
    table.add_row("0.1–0.2", "声")
    print_whole(table)
    stream.flush()
    text = written.getvalue().decode(encoding)
    assert ("0.1–0.2" in text) is (encoding in ("cp1252", "utf-8"))
    assert ("0.1-0.2" in text) is (encoding in ("ascii", "latin-1"))
    assert "\\udcff" in text


def test_nobody_needs_to_read_to_the_end() -> None:
    command = [sys.executable, "-c", MANY + END]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b"ended\n"
    assert process.wait() == 0


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_there_need_be_no_stream(closed: tuple[int, ...], tmp_path: object) -> None:
    # The file that is opened next must not take what is printed.
    code = f"{MANY} f = open({str(tmp_path)!r} + '/f', 'wb', 0); f.write(b'x'); {SPILL}; {HELP}"

    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    assert subprocess.run([sys.executable, "-c", code], check=False, preexec_fn=close).returncode == 0
    with open(f"{tmp_path}/f", "rb") as file:
        assert file.read() == b"x"


def test_streams_stay_what_they_were() -> None:
    code = (
        "import sys; from abaw.streams import prepare_streams; e = sys.stdout.encoding; prepare_streams();"
        "first = sys.stdout; prepare_streams(); assert sys.stdout is first; assert first.encoding == e;"
        "assert first.fileno() == 1; assert not first.isatty(); first.buffer.write(b'raw');"
        "print('x', end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert cast(bytes, done.stdout) == b"rawx"
