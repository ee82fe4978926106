"""curl, with the flags in CURL_FLAGS. It prints the body as it comes; events, the last id and the retry are ours."""

import os
import subprocess
import time

from report import emit, note, run


def events(body):
    """Splits a body into events (fields by name). What is not followed by an empty line is none."""
    fields = {}
    for line in body:
        if not line.endswith(b"\n"):
            return
        line = line.rstrip(b"\r\n").decode()
        if not line:
            if fields:
                yield fields
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def follow(stream, url):
    last, wait = "", 3.0
    while True:
        command = ["curl", "--silent", "--show-error", "--no-buffer", "--fail", *os.environ.get("CURL_FLAGS", "").split()]
        command += ["--header", "Accept: text/event-stream", "--speed-limit", "1", "--speed-time", "40"]
        if last:
            command += ["--header", f"Last-Event-ID: {last}"]
        with subprocess.Popen([*command, url], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
            for event in events(curl.stdout):
                if "retry" in event:
                    wait = int(event["retry"]) / 1000
                emit(stream, event.get("event", "message"), event.get("id"), event.get("data", ""))
                last = event.get("id") or last
            curl.kill()
            note(stream, curl.stderr.read().decode().strip())
        time.sleep(wait)


run(follow)
