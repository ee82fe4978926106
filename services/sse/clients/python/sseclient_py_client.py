"""sseclient-py on requests. It reads one response. Where the response ends in the middle of an event and nobody notices, as
in HTTP/1.0, it delivers half of that event, with its id: JSON that can't be read is not taken, and neither is the id."""

import json
import time

import requests
import sseclient

from report import emit, note, run


def follow(stream, url):
    last, wait = "", 3.0
    while True:
        headers = {"Accept": "text/event-stream"}
        if last:
            headers["Last-Event-ID"] = last
        try:
            with requests.get(url, stream=True, headers=headers, timeout=40) as response:
                response.raise_for_status()
                for event in sseclient.SSEClient(response).events():
                    if event.retry is not None:
                        wait = int(event.retry) / 1000
                    json.loads(event.data)
                    emit(stream, event.event, event.id, event.data)
                    last = event.id or last
        except (requests.RequestException, ValueError) as e:
            note(stream, repr(e))
        time.sleep(wait)


run(follow)
