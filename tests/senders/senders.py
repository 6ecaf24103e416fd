"""Signs and verifies requests with senders' own libraries. Jobs and results are those of senders.mjs."""

import json
import sys
import time
from datetime import datetime, timezone

from slack_sdk.signature import SignatureVerifier
from square.utils.webhooks_helper import verify_signature
from standardwebhooks import Webhook


def sign_standard_webhooks(job):
    now = datetime.now(timezone.utc)
    signature = Webhook(job["secret"]).sign(msg_id="msg_2invented0002", timestamp=now, data=job["body"])
    timestamp = str(int(now.timestamp()))
    return {"webhook-id": "msg_2invented0002", "webhook-timestamp": timestamp, "webhook-signature": signature}


def sign_slack(job):
    timestamp = str(int(time.time()))
    signature = SignatureVerifier(job["secret"]).generate_signature(timestamp=timestamp, body=job["body"])
    return {"x-slack-request-timestamp": timestamp, "x-slack-signature": signature}


def verify_square(job):
    signature = job["headers"]["x-square-hmacsha256-signature"]
    return verify_signature(
        request_body=job["body"], signature_header=signature, signature_key=job["secret"], notification_url=job["url"]
    )


SENDERS = {
    ("sign", "standard-webhooks"): sign_standard_webhooks,
    ("sign", "slack"): sign_slack,
    ("verify", "square"): verify_square,
}

print(json.dumps([SENDERS[job["do"], job["sender"]](job) for job in json.load(sys.stdin)]))
