"""What waited on both sides while a session was away crosses when it comes back."""

import asyncio

from sandbox import story
from tests.journey.conftest import Product

EACH_WAY = 12


async def test_a_backlog_both_ways_arrives_whole(own_product: Product) -> None:
    """No key is used twice, or the contact's phone drops a message without a word.

    The library may do that where it sends while it still reads what was kept for it.
    """
    async with own_product.cast() as cast:
        async with own_product.gateway():
            await story.open_session(cast, "code")
            await story.link(cast, "code")
            # A session that both sides have used: from here on each key is used once.
            await story.send(cast, "hello")
            await cast.people.send(cast.contact, cast.owner, "hello yourself")
            await cast.receiver.typed("message.received")
        texts = {f"out {n}" for n in range(EACH_WAY)}
        for text in sorted(texts):
            body = {"to": cast.contact, "text": text}
            await cast.api.ok("POST", f"{cast.session}/messages", body)
            await cast.people.send(cast.contact, cast.owner, text.replace("out", "in"))
        async with own_product.gateway():
            heard: set[str] = set()
            try:
                async with asyncio.timeout(30):
                    while not texts <= heard:
                        await asyncio.sleep(0.2)
                        heard = {each.text for each in await cast.people.received(cast.contact)}
            except TimeoutError:
                assert texts - heard == set()
