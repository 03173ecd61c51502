"""Exit codes, and the one exception that ends a run of mediactl with one of them."""

from enum import IntEnum

from proxy.control.schema import ControlError, Error


class Exit(IntEnum):
    """What mediactl's exit status means. `--help` and docs/control.md print the same list."""

    OK = 0
    NOT_FOUND = 1
    """No such session or node, or the beginning of an id fits several."""
    USAGE = 2
    """The command line, or a request the proxy did not understand."""
    UNREACHABLE = 3
    """Neither proxy nor node answers where mediactl was told to ask."""
    NODE = 4
    """An rtpengine node failed while answering: the proxy's node is down, or the node returned an error."""
    REFUSED = 5
    """A change that the proxy could not make, or an evacuation that left calls behind."""
    INTERRUPTED = 130
    """Ctrl-C."""


class Failure(Exception):
    """Ends the run: `message` is printed on stderr, `code` is the exit status."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


_EXIT_OF_ERROR = {
    "not_found": Exit.NOT_FOUND,
    "ambiguous": Exit.NOT_FOUND,
    "bad_request": Exit.USAGE,
    "internal": Exit.UNREACHABLE,
    "node": Exit.NODE,
    "refused": Exit.REFUSED,
}


def failure_of(error: ControlError | Error) -> Failure:
    """The Failure for an error answer of the control API; `internal` and unknown codes count as unreachable."""
    return Failure(_EXIT_OF_ERROR.get(error.code, Exit.UNREACHABLE), error.message)
