"""Reads requests, a line of JSON each, and says of each whether a library accepts it."""

import base64
import json
import sys

import razorpay
import slack_sdk.signature
import standardwebhooks
import stripe
import svix


def slack(secret, headers, body):
    if not slack_sdk.signature.SignatureVerifier(secret).is_valid_request(body, headers):
        raise ValueError("not verified")


LIBRARIES = {
    "standardwebhooks": lambda secret, headers, body: standardwebhooks.Webhook(secret).verify(body, headers),
    "svix": lambda secret, headers, body: svix.Webhook(secret).verify(body, headers),
    "stripe": lambda secret, headers, body: stripe.Webhook.construct_event(body, headers.get("stripe-signature"), secret),
    "slack_sdk": slack,
    "razorpay": lambda secret, headers, body: razorpay.Client(auth=("id", "secret")).utility.verify_webhook_signature(
        body.decode(), headers.get("x-razorpay-signature"), secret
    ),
}

for line in sys.stdin:
    request = json.loads(line)
    error = ""
    try:
        LIBRARIES[request["library"]](request["secret"], request["headers"], base64.b64decode(request["body"]))
    except Exception as e:  # whatever a library raises
        error = f"{type(e).__name__}: {e}".splitlines()[0]
    print(json.dumps({"ok": error == "", "error": error}), flush=True)
