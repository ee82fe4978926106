"""httpx-sse. It reads one connection; connecting again, with the last id and after the time that the server says, is ours."""

import time

import httpx
from httpx_sse import SSEError, connect_sse

from report import emit, note, run


def follow(stream, url):
    last, wait = "", 3.0
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with httpx.Client(timeout=40) as client, connect_sse(client, "GET", url, headers=headers) as source:
                for sse in source.iter_sse():
                    if sse.retry is not None:
                        wait = sse.retry / 1000
                    emit(stream, sse.event, sse.id, sse.data)
                    last = sse.id or last
        except (httpx.TransportError, SSEError) as e:
            note(stream, repr(e))
        time.sleep(wait)


run(follow)
