"""What each message of RFC 4475 must lead to, as data: for the parser's tests and for tests of the whole proxy.

Where the RFC leaves a choice ("could be liberal"), the table holds ours and the note gives the reason. Messages are in
`rfc4475/NAME.dat`, byte for byte as published (one oddity: `baddn` lacks its empty line there).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "rfc4475"


class Outcome(NamedTuple):
    """What one message leads to.

    section   section of RFC 4475
    kind      "request" or "response"
    parse     None: `parse_untrusted` accepts it, and its bytes come back; else the status of the BadMessage it raises
    validate  None: `validate_untrusted` accepts it; else the status of the BadMessage it raises (requests only)
    core      what a proxy may do with it, any of: "relay", "register" (whatever the registrar answers), "drop", or a
              status code it answers with. A response is relayed only if its top Via is the proxy's own: a test of the
              whole proxy puts one there first.
    note      why, where it is not plain
    """

    section: str
    kind: str
    parse: int | None
    validate: int | None
    core: tuple[str, ...]
    note: str = ""


def _read(table: str) -> dict[str, Outcome]:
    outcomes = {}
    for row in table.strip().splitlines():
        name, section, kind, parse, validate, core, note = (cell.strip() for cell in row.split("|"))
        outcomes[name] = Outcome(
            section,
            kind,
            None if parse == "-" else int(parse),
            None if validate == "-" else int(validate),
            tuple(core.split()),
            note,
        )
    return outcomes


OUTCOMES: Final[dict[str, Outcome]] = _read("""
wsinv      | 3.1.1.1  | request  | -   | -   | relay          |
intmeth    | 3.1.1.2  | request  | -   | -   | relay          |
esc01      | 3.1.1.3  | request  | -   | -   | relay          |
escnull    | 3.1.1.4  | request  | -   | -   | register relay |
esc02      | 3.1.1.5  | request  | -   | -   | relay          | its method is RE%47IST%45R, which is not REGISTER
lwsdisp    | 3.1.1.6  | request  | -   | -   | relay          |
longreq    | 3.1.1.7  | request  | -   | -   | relay          |
dblreq     | 3.1.1.8  | request  | -   | -   | register relay | the second request in the datagram is dropped
semiuri    | 3.1.1.9  | request  | -   | -   | relay          |
transports | 3.1.1.10 | request  | -   | -   | relay          |
mpart01    | 3.1.1.11 | request  | -   | -   | relay          |
unreason   | 3.1.1.12 | response | -   | -   | relay          |
noreason   | 3.1.1.13 | response | -   | -   | relay          |
badinv01   | 3.1.2.1  | request  | -   | 400 | 400 drop       | its Via is malformed, there may be nobody to answer
clerr      | 3.1.2.2  | request  | 400 | -   | 400            |
ncl        | 3.1.2.3  | request  | 400 | -   | 400            |
scalar02   | 3.1.2.4  | request  | -   | 400 | 400            |
scalarlg   | 3.1.2.5  | response | -   | -   | drop           | its CSeq cannot be read
quotbal    | 3.1.2.6  | request  | -   | 400 | 400            |
ltgtruri   | 3.1.2.7  | request  | -   | 400 | 400            |
lwsruri    | 3.1.2.8  | request  | 400 | -   | 400            |
lwsstart   | 3.1.2.9  | request  | 400 | -   | 400            | liberal elements may accept it; we do not
trws       | 3.1.2.10 | request  | 400 | -   | 400            | liberal elements may accept it; we do not
escruri    | 3.1.2.11 | request  | -   | 400 | 400            | else the escaped headers would have to be removed
baddate    | 3.1.2.12 | request  | -   | -   | relay          | a proxy has no use for Date
regbadct   | 3.1.2.13 | request  | -   | -   | 400 relay      | 400 from whoever reads the Contact, a registrar
badaspec   | 3.1.2.14 | request  | -   | 400 | 400            |
baddn      | 3.1.2.15 | request  | 400 | -   | 400            | with its empty line added, validate refuses it with 400
badvers    | 3.1.2.16 | request  | 505 | -   | 505            |
mismatch01 | 3.1.2.17 | request  | -   | 400 | 400            |
mismatch02 | 3.1.2.18 | request  | -   | 400 | 400 501        |
bigcode    | 3.1.2.19 | response | 0   | -   | drop           |
badbranch  | 3.2.1    | request  | -   | -   | relay          | the bare cookie counts as no branch (RFC 2543 matching)
insuf      | 3.3.1    | request  | -   | 400 | 400 drop       | From, To and Call-ID of a response are missing
unkscm     | 3.3.2    | request  | -   | 416 | 416            |
novelsc    | 3.3.3    | request  | -   | 416 | 416            | a proxy that knows soap.beep could route it
unksm2     | 3.3.4    | request  | -   | -   | register relay | unknown schemes in To and Contact are for the registrar
bext01     | 3.3.5    | request  | -   | -   | 420            | for Proxy-Require; Require is for the far end
invut      | 3.3.6    | request  | -   | -   | relay          | 415 is for a UAS
regaut01   | 3.3.7    | request  | -   | -   | register relay |
multi01    | 3.3.8    | request  | -   | 400 | 400            |
mcl01      | 3.3.9    | request  | 400 | -   | 400            |
bcast      | 3.3.10   | response | -   | -   | drop           | its second Via is a broadcast address
zeromf     | 3.3.11   | request  | -   | -   | 483            |
cparam01   | 3.3.12   | request  | -   | -   | register relay |
cparam02   | 3.3.13   | request  | -   | -   | register relay |
regescrt   | 3.3.14   | request  | -   | -   | register relay |
sdp01      | 3.3.15   | request  | -   | -   | relay          | 406 is for a UAS
inv2543    | 3.4.1    | request  | -   | -   | relay          |
""")


def message(name: str) -> bytes:
    """The bytes of one message."""
    return (FOLDER / f"{name}.dat").read_bytes()
