"""What the Python clients have in common: they print what they get, a line of JSON for each event, until stdin ends."""

import json
import os
import sys
import threading

_lock = threading.Lock()


def emit(stream, event, event_id, data):
    with _lock:
        sys.stdout.write(json.dumps({"s": stream, "ev": event, "id": event_id or "", "data": data}) + "\n")
        sys.stdout.flush()


def note(stream, text):
    """Says on stderr what would help whoever looks into a failure."""
    with _lock:
        sys.stderr.write(f"{stream}: {text}\n")


def run(follow):
    """Calls follow(stream, url) for each URL of the command line, each on a thread of its own."""
    for stream, url in enumerate(sys.argv[1:]):
        threading.Thread(target=follow, args=(stream, url), daemon=True).start()
    sys.stdin.read()
    os._exit(0)
