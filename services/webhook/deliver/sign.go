package deliver

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// signer signs an endpoint's requests. While a secret is being replaced the old one and the new one are both good.
type signer struct {
	keys   []signingKey // newest first
	compat []string
}

type signingKey struct {
	key     signature.Key
	text    string // of a shared secret: what the libraries of other senders are configured with
	expires time.Time
}

func newSigner(ep *store.Endpoint) (*signer, error) {
	s := &signer{compat: ep.Signatures}
	for _, secret := range ep.Secrets {
		k := signingKey{expires: secret.Expires}
		var err error
		switch secret.Kind {
		case store.SecretV1:
			k.text = secret.Text
			k.key, err = signature.ParseSecret(secret.Text)
		case store.SecretV1a:
			k.key, err = signature.ParsePrivateKey(secret.Text)
		default:
			err = fmt.Errorf("unknown kind %q", secret.Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("signing key: %w", err)
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// compatible are the signatures of other senders. Those that hold one signature only are made with the oldest secret that is
// still good: the receiver may not know the new one before the old one expires.
var compatible = map[string]func(secret string, at time.Time, body []byte) []signature.Header{
	"stripe": signature.Stripe, "github": signature.GitHub, "slack": signature.Slack, "razorpay": signature.Razorpay,
}

// sign sets the headers of a request.
func (s *signer) sign(h http.Header, id string, at time.Time, body []byte) error {
	keys := make([]signature.Key, 0, len(s.keys))
	shared := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		if !k.expires.IsZero() && !k.expires.After(at) {
			continue
		}
		keys = append(keys, k.key)
		if k.text != "" {
			shared = append(shared, k.text)
		}
	}
	if len(keys) == 0 {
		return errors.New("the endpoint has no secret")
	}
	value, err := signature.Sign(signature.Message{ID: id, At: at, Body: body}, keys...)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	h.Set(signature.HeaderID, id)
	h.Set(signature.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(signature.HeaderSignature, value)
	if len(shared) == 0 {
		return nil
	}
	for _, name := range s.compat {
		f := compatible[name]
		if f == nil {
			continue
		}
		for _, header := range f(shared[len(shared)-1], at, body) {
			h.Set(header.Name, header.Value)
		}
		if name == "stripe" {
			h.Set("Stripe-Signature", stripeAll(shared, at, body))
		}
	}
	return nil
}

// stripeAll is Stripe's header with a signature by each secret.
func stripeAll(secrets []string, at time.Time, body []byte) string {
	var b strings.Builder
	for i, secret := range secrets {
		one := signature.Stripe(secret, at, body)[0].Value
		if i > 0 {
			_, one, _ = strings.Cut(one, ",") // its time is there already
			b.WriteByte(',')
		}
		b.WriteString(one)
	}
	return b.String()
}
