package deliver

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// target is an endpoint made ready for requests. It does not change.
type target struct {
	store.Endpoint
	header  http.Header
	signer  *signer
	client  *http.Client
	own     *http.Transport // of an endpoint with its own certificates
	timeout time.Duration
	err     error // why nothing can be sent to it
}

func (s *Sender) target(ep *store.Endpoint) *target {
	t := &target{Endpoint: *ep, client: s.client, timeout: maxTimeout}
	if ep.Timeout > 0 && ep.Timeout < maxTimeout {
		t.timeout = ep.Timeout
	}
	t.MaxInFlight = min(max(ep.MaxInFlight, 1), 100)
	t.Batch = min(max(ep.Batch, 1), 100)
	var err error
	if t.signer, err = newSigner(ep); err != nil {
		t.err = err
	}
	if err := CheckHeaders(ep.Headers); err != nil {
		t.err = err
	}
	t.header = make(http.Header, len(ep.Headers)+1)
	t.header.Set("User-Agent", "Tickwire-Webhook/1.0")
	for _, h := range ep.Headers {
		t.header.Set(h.Name, h.Value)
	}
	if ep.TLS != nil {
		tc, err := clientTLS(ep.TLS)
		if err != nil {
			t.err = err
			return t
		}
		t.own = newTransport(&s.cfg, s.guard, tc)
		t.own.MaxIdleConns, t.own.MaxIdleConnsPerHost = t.MaxInFlight, t.MaxInFlight
		t.client = newClient(t.own)
	}
	return t
}

// close gives back the connections that are its alone.
func (t *target) close() {
	if t != nil && t.own != nil {
		t.own.CloseIdleConnections()
	}
}

// Headers that endpoints may not set: those that frame a request, and those that say who sent it.
var (
	ownHeaders = []string{
		"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Te",
		"Trailer", "Expect", "Accept-Encoding", "Idempotency-Key", "X-Idempotency-Key", "Stripe-Signature",
	}
	ownPrefixes = []string{"Webhook-", "Proxy-", "X-Hub-Signature", "X-Slack-", "X-Razorpay-"}
)

// CheckHeaders says what is wrong with an endpoint's headers.
func CheckHeaders(headers []store.Header) error {
	if len(headers) > 20 {
		return errors.New("headers: at most 20")
	}
	for i, h := range headers {
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		switch {
		case len(h.Name) > 100 || !httpguts.ValidHeaderFieldName(h.Name):
			return fmt.Errorf("headers: %q is no name of a header", h.Name)
		case slices.Contains(ownHeaders, name), slices.ContainsFunc(ownPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
			return fmt.Errorf("headers: %s is not for endpoints to set", name)
		case len(h.Value) > 4096 || !httpguts.ValidHeaderFieldValue(h.Value):
			return fmt.Errorf("headers: the value of %s is longer than 4096 bytes or holds control characters", name)
		case slices.ContainsFunc(headers[:i], func(o store.Header) bool { return strings.EqualFold(o.Name, h.Name) }):
			return fmt.Errorf("headers: %s is there twice", name)
		}
	}
	return nil
}
