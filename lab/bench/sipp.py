"""The load: a sipp caller and a sipp callee with our scenarios, and what their counters say.

Both are told the number of calls and end by themselves. sipp writes two CSV files each: `-trace_stat` (calls that
succeeded and failed) and `-trace_counts` (per message of the scenario: sent or received, retransmitted, timed out,
unexpected). The last row holds the totals. Retransmissions count whichever end sent or saw them.
"""

import csv
import signal
from dataclasses import dataclass
from pathlib import Path

from lab.bench.processes import BenchError, Daemon

SCENARIOS = Path(__file__).parent / "scenarios"
CALLER = "127.0.0.8"
CALLEE = "127.0.0.9"
PROXY = "127.0.0.2"
PORT = 5060
BUFFER = 4 << 20
"""Socket buffers of both ends in bytes, as far as the kernel allows. With sipp's own 64 kB an end that waits ten
milliseconds for its turn on the processor loses messages at 2,000 calls a second, whatever the proxy does."""


@dataclass(frozen=True)
class Load:
    """What to send: `calls` calls at `rate` a second."""

    calls: int
    rate: int

    @property
    def patience(self) -> float:
        """Seconds after which the load is given up: its own length and 20; a call still open then has failed anyway."""
        return self.calls / self.rate + 20.0


@dataclass(frozen=True)
class Counters:
    """Totals of one load, both ends together; `rate` is the calls a second the caller really made."""

    succeeded: int
    failed: int
    retransmissions: int
    rate: float = 0.0


def read_last_row(path: Path) -> dict[str, str]:
    """The last row of one of sipp's CSV files by column name; BenchError when there is none."""
    try:
        with path.open(newline="", errors="replace") as lines:
            rows = [row for row in csv.reader(lines, delimiter=";") if row]
    except FileNotFoundError:
        raise BenchError(f"sipp wrote no {path.name} in {path.parent}: see its logs there") from None
    if len(rows) < 2:
        raise BenchError(f"{path} holds no totals: sipp was ended before it wrote them; see the logs beside it")
    return dict(zip(rows[0], rows[-1], strict=False))


def count_retransmissions(counts: dict[str, str]) -> int:
    """Sum of the per-message retransmission and timeout columns of a `-trace_counts` row."""
    return sum(int(value) for name, value in counts.items() if name.endswith(("_Retrans", "_Timeout")))


def counters(folder: Path, caller_pid: int, callee_pid: int, calls: int) -> Counters:
    """Read what both ends wrote into `folder`. Calls that never came to an end count as failed."""
    caller = read_last_row(folder / "caller.csv")
    callee = read_last_row(folder / "callee.csv")
    succeeded = min(int(caller["SuccessfulCall(C)"]), int(callee["SuccessfulCall(C)"]))
    retransmissions = sum(
        count_retransmissions(read_last_row(folder / f"{name}_{pid}_counts.csv"))
        for name, pid in (("caller", caller_pid), ("callee", callee_pid))
    )
    return Counters(succeeded, calls - succeeded, retransmissions, float(caller["CallRate(C)"]))


def _command(name: str, address: str, load: Load) -> list[str | Path]:
    timeout = int(load.patience)
    return [
        *("sipp", "-sf", SCENARIOS / f"{name}.xml", "-i", address, "-p", str(PORT), "-nostdin"),
        *("-m", str(load.calls), "-timeout", f"{timeout}s", "-timeout_error"),
        *("-trace_stat", "-stf", f"{name}.csv", "-fd", "1", "-trace_counts"),
        *("-buff_size", str(BUFFER)),
        *("-trace_err", "-error_file", f"{name}-errors.log"),
    ]


def start_callee(load: Load, folder: Path) -> Daemon:
    """The answering end, bound and ready."""
    callee = Daemon("sipp callee", _command("callee", CALLEE, load), folder / "callee.log", folder)
    try:
        callee.wait_bound(CALLEE, PORT)
    except BenchError:
        callee.stop()
        raise
    return callee


def drive(load: Load, folder: Path, called: str = CALLEE) -> Counters:
    """Run the whole load through the proxy and return its totals. Files go to `folder`. `called`: the address in the
    Request-URI: the callee's, or the proxy's own when the proxy has to find the callee."""
    with start_callee(load, folder) as callee:
        command = [
            *_command("caller", CALLER, load),
            *(f"{called}:{PORT}", "-rsa", f"{PROXY}:{PORT}", "-s", "service"),
            *("-r", str(load.rate), "-d", "0", "-l", "100000"),
        ]
        with Daemon("sipp caller", command, folder / "caller.log", folder) as caller:
            caller.wait(load.patience + 10.0)
        try:
            callee.wait(2.0)
        except BenchError:
            callee.stop(signal.SIGUSR1)  # calls are missing; told to quit, sipp writes its totals first
    return counters(folder, caller.pid, callee.pid, load.calls)
