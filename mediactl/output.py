"""What a command hands to `cli.main`, which prints it."""

import msgspec

from mediactl.errors import Exit


class Output(msgspec.Struct):
    """What a command found: `text` for people, `data` for --json, `note` for stderr, `status` to exit with."""

    text: str
    data: object
    note: str = ""
    status: Exit = Exit.OK
