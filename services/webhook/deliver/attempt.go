package deliver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// Result is what came of one request.
type Result struct {
	At       time.Time
	Took     time.Duration
	Code     int    // HTTP status; 0: there was no answer
	Err      string // why it failed; empty when it was answered by 2xx
	Response string // the beginning of the answer's body, made printable

	kind       kind
	retryAfter time.Duration
	body       []byte // the answer's, at most maxResponse
	header     http.Header
}

// OK tells whether the endpoint has taken it.
func (r *Result) OK() bool { return r.kind == delivered }

// kind is a Result as metrics count it.
type kind string

const (
	delivered kind = "delivered"
	gone      kind = "gone"      // 410
	status    kind = "status"    // any other answer
	timeout   kind = "timeout"   // no answer in time
	forbidden kind = "forbidden" // by the guard
	network   kind = "network"   // name, connection, TLS, or no HTTP
	unfit     kind = "unfit"     // the endpoint's configuration can't be used
	cut       kind = "cut"       // we stopped
)

var kinds = []kind{delivered, gone, status, timeout, forbidden, network, unfit, cut}

// message is what a request carries.
type message struct {
	id          string
	contentType string
	body        []byte
}

// post makes one attempt.
func (t *target) post(ctx context.Context, m *message) Result {
	return t.do(ctx, http.MethodPost, m, nil)
}

func (t *target) do(ctx context.Context, method string, m *message, more http.Header) Result {
	r := Result{At: time.Now()}
	if t.err != nil {
		r.kind, r.Err = unfit, t.err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.URL, bytes.NewReader(m.body))
	if err != nil {
		r.kind, r.Err = unfit, withoutURL(err)
		return r
	}
	for name, values := range t.header {
		req.Header[name] = values
	}
	for name, values := range more {
		req.Header[name] = values
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", m.contentType)
		if err := t.signer.sign(req.Header, m.id, r.At, m.body); err != nil {
			r.kind, r.Err = unfit, err.Error()
			return r
		}
	}
	// Receivers know messages by their id, so net/http may try again on a new connection when the endpoint closes an idle
	// one just as it is used, or says GOAWAY; but not for ever. An empty value is not sent.
	req.Header["Idempotency-Key"] = []string{}
	again := req.GetBody
	left := maxReconnects
	req.GetBody = func() (io.ReadCloser, error) {
		if left--; left < 0 {
			return nil, errors.New("the connection was closed before the answer, several times")
		}
		return again()
	}
	resp, err := t.client.Do(req)
	if err != nil {
		r.Took = time.Since(r.At)
		r.fail(ctx, err)
		return r
	}
	r.answer(resp, cancel)
	r.Took = time.Since(r.At)
	return r
}

// answer reads what is looked at of an answer. The status alone decides.
func (r *Result) answer(resp *http.Response, cancel context.CancelFunc) {
	late := time.AfterFunc(bodyTime, cancel)
	defer late.Stop()
	r.Code, r.header = resp.StatusCode, resp.Header
	// One byte more than is kept tells whether the body has ended; only then is the connection used again.
	r.body, _ = io.ReadAll(io.LimitReader(resp.Body, maxResponse+1)) // what has come is what there is to see
	_ = resp.Body.Close()
	r.body = r.body[:min(len(r.body), maxResponse)]
	switch {
	case r.Code >= 200 && r.Code <= 299:
		r.kind, r.Response = delivered, printable(r.body, 512)
		return
	case r.Code == http.StatusGone:
		r.kind = gone
	default:
		r.kind = status
	}
	r.Err, r.Response = "HTTP "+strconv.Itoa(r.Code), printable(r.body, 2048)
	if r.Code >= 300 && r.Code <= 399 {
		r.Err += ": redirects are not followed"
	}
	r.retryAfter = retryAfter(resp.Header, time.Now())
}

// fail says why there was no answer.
func (r *Result) fail(ctx context.Context, err error) {
	var timed net.Error
	var name *net.DNSError
	var unknown x509.UnknownAuthorityError
	var alert tls.AlertError
	switch {
	case errors.Is(err, ErrForbidden):
		r.kind, r.Err = forbidden, ErrForbidden.Error()
	case errors.Is(ctx.Err(), context.Canceled):
		r.kind, r.Err = cut, "we stopped before the answer"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timed) && timed.Timeout():
		r.kind, r.Err = timeout, "no answer in time"
	case errors.As(err, &name):
		r.kind, r.Err = network, "the host's name can't be resolved"
		if name.IsNotFound {
			r.Err = "the host's name does not exist"
		}
	case errors.As(err, &unknown):
		r.kind, r.Err = network, "the certificate is not by an authority that is trusted here"
	case errors.As(err, &alert):
		r.kind, r.Err = network, "TLS: "+printable([]byte(alert.Error()), 100)
	default:
		r.kind, r.Err = network, withoutURL(err)
	}
}

// withoutURL is an error's text without the URL, which may hold the endpoint's own secrets, and without addresses of ours.
func withoutURL(err error) string {
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return printable([]byte(err.Error()), 300)
}

// printable is at most n bytes of a peer's text, on one line.
func printable(b []byte, n int) string {
	b = b[:min(len(b), n)]
	var out strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1 && !utf8.FullRune(b):
			b = b[len(b):] // a character that was cut in two
			continue
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case !unicode.IsPrint(r):
			r = '\uFFFD'
		}
		out.WriteRune(r)
		b = b[size:]
	}
	return strings.TrimSpace(out.String())
}

// attempt is how the outbox keeps it.
func (r *Result) attempt(d *store.Delivery) store.Attempt {
	return store.Attempt{
		Delivery: d.Num, N: d.Attempts + 1, At: r.At, Took: r.Took, Code: r.Code, Err: r.Err, Response: r.Response,
		Manual: d.Manual,
	}
}
