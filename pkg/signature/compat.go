package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// What follows are the signatures of well-known senders, for receivers that verify with those senders' own libraries. The
// secret is the whole text that the receiver has configured, not its decoded bytes.

// Header is one header of a request.
type Header struct{ Name, Value string }

// Stripe signs as Stripe does: https://docs.stripe.com/webhooks#verify-manually.
func Stripe(secret string, at time.Time, body []byte) []Header {
	t := strconv.FormatInt(at.Unix(), 10)
	return []Header{{"Stripe-Signature", "t=" + t + ",v1=" + hexSum(secret, t+".", body)}}
}

// GitHub signs as GitHub does: https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries.
func GitHub(secret string, _ time.Time, body []byte) []Header {
	return []Header{{"X-Hub-Signature-256", "sha256=" + hexSum(secret, "", body)}}
}

// Slack signs as Slack does: https://api.slack.com/authentication/verifying-requests-from-slack.
func Slack(secret string, at time.Time, body []byte) []Header {
	t := strconv.FormatInt(at.Unix(), 10)
	return []Header{{"X-Slack-Request-Timestamp", t}, {"X-Slack-Signature", "v0=" + hexSum(secret, "v0:"+t+":", body)}}
}

// Razorpay signs as Razorpay does: https://razorpay.com/docs/webhooks/validate-test.
func Razorpay(secret string, _ time.Time, body []byte) []Header {
	return []Header{{"X-Razorpay-Signature", hexSum(secret, "", body)}}
}

// hexSum is the HMAC-SHA-256 of what is put before the body, and the body.
func hexSum(secret, before string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(before))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
