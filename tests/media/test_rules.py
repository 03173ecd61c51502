"""The plain call."""

from __future__ import annotations

from tests.media.ladder import Stage, alice, bob, establish, origin, settle, way, where


async def test_plain_call(stage: Stage) -> None:
    call = await establish(stage)
    assert where(call.to_bob) == where(call.to_freeswitch["a"])
    assert where(call.to_alice) == where(call.to_freeswitch["b"])
    await call.hang_up()
    assert stage.commands() == ["offer leg-A>leg-B [pub,pub]", "answer leg-A<leg-B", "delete"]
    stage.clean()
