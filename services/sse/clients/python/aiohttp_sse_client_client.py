"""aiohttp-sse-client. It connects again by itself when a body has ended, but not when it broke off: then it raises, and a
new one goes on with the last id. Lines may be 512 KiB long here; its own limit is less than a snapshot of many symbols."""

import asyncio
import sys
from datetime import timedelta

import aiohttp
from aiohttp_sse_client.client import EventSource

from report import emit, note


async def follow(stream, url):
    last, wait = "", timedelta(seconds=3)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=40)
    while True:
        headers = {"Last-Event-Id": last} if last else {}
        try:
            async with aiohttp.ClientSession(timeout=timeout, read_bufsize=1 << 19) as session:
                async with EventSource(url, session=session, headers=headers) as source:
                    async for event in source:
                        wait = source._reconnection_time  # it shows what the server said nowhere else
                        emit(stream, event.type, event.last_event_id, event.data)
                        last = event.last_event_id or last
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as e:
            note(stream, repr(e))
        await asyncio.sleep(wait.total_seconds())


async def main():
    following = [asyncio.create_task(follow(*each)) for each in enumerate(sys.argv[1:])]
    await asyncio.to_thread(sys.stdin.read)
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


asyncio.run(main())
