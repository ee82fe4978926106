package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/pkg/signature"
)

// ListenConfig says how webhooks get to this machine, and what becomes of them.
type ListenConfig struct {
	API     API
	Listen  string   // host:port of the receiver
	URL     string   // as the server reaches it; empty: http:// and the receiver's address
	Forward string   // URL that requests go on to; empty: nowhere
	Events  []string // types; empty: all
	Secret  string   // of an endpoint that is registered already; "new" makes one up; empty: register an endpoint
	JSON    bool
	Count   int // events after which to end; 0: never
}

const newSecret = "new"

func (c *ListenConfig) registerFlags(fs *pflag.FlagSet) {
	c.API.registerFlags(fs)
	fs.StringVar(&c.Listen, "listen-addr", c.Listen, "`ADDRESS` of the receiver; port 0 takes any free one")
	fs.StringVar(&c.URL, "url", c.URL, "`URL` by which the server reaches the receiver, such as that of a tunnel (default: the receiver's address)")
	fs.StringVar(&c.Forward, "forward-to", c.Forward, "`URL` that requests which have been verified go on to, as they are; its answer goes back")
	fs.StringSliceVar(&c.Events, "events", c.Events, "`TYPE,…` of events (default: all)")
	fs.StringVar(&c.Secret, "secret", c.Secret, "do not register an endpoint, but verify by this `SECRET` (whsec_… or whpk_…); without a value, by a new one that is printed")
	fs.Lookup("secret").NoOptDefVal = newSecret
	fs.BoolVar(&c.JSON, "json", c.JSON, "print the body of each event, a line of JSON, and nothing else on stdout")
	fs.IntVar(&c.Count, "count", c.Count, "end after so many events (default: never)")
}

func (c *ListenConfig) validate() error {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return wrong("--listen-addr: %v", err)
	}
	for flag, text := range map[string]string{"--url": c.URL, "--forward-to": c.Forward} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return wrong("%s: %q is no http:// or https:// URL", flag, text)
		}
	}
	if c.Count < 0 {
		return wrong("--count: not negative")
	}
	_, err := c.API.base()
	return err
}

// ListenCommand is `tickwire listen`.
func ListenCommand() *cobra.Command {
	c := ListenConfig{API: defaultAPI(), Listen: "127.0.0.1:0"}
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks on this machine: verify their signatures, print them, pass them on",
		Long: `Receive webhooks on this machine: verify their signatures, print each event in a line, and pass it on with --forward-to.

An endpoint is registered for it with the alerts API, and deleted at the end. The server must be allowed to send to this
machine: tickwire all is, to loopback; otherwise see --webhook-allow-nets and --webhook-allow-ports there, or bring a tunnel
and say its --url.

With --secret nothing is registered: give the printed URL and secret to whatever sends.

Exit code 0: everything that came was good. 1: something was not, or could not be passed on.`,
		Example: `  tickwire listen
  tickwire listen --forward-to http://localhost:3000/hooks
  tickwire listen --json | jq .data.object`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Listen(cmd.Context(), c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	c.registerFlags(cmd.Flags())
	return cmd
}

// Bounds of the receiver.
const (
	maxBody     = 1 << 20
	maxReceived = 64 // requests at a time
	remembered  = 10_000
	passTimeout = 14 * time.Second // the sender gives up after 15
	endTimeout  = 5 * time.Second
)

// receiver takes webhooks.
type receiver struct {
	cfg      ListenConfig
	out      io.Writer // events
	notes    io.Writer // everything else
	verifier signature.Verifier
	client   http.Client
	room     chan struct{}
	enough   chan struct{} // closed after Count events

	mu       sync.Mutex // also of the writers
	seen     map[string]bool
	order    []string // of seen, oldest first
	events   int
	again    int
	rejected int
	passed   int
	failed   int
}

// Listen receives webhooks until ctx ends.
func Listen(ctx context.Context, cfg ListenConfig, out, notes io.Writer) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("--listen-addr: %w", err)
	}
	defer func() { _ = ln.Close() }() // the server has, unless it was never started
	r := &receiver{
		cfg: cfg, out: out, notes: notes, room: make(chan struct{}, maxReceived), enough: make(chan struct{}), seen: make(map[string]bool),
		client: http.Client{Timeout: passTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	where := cfg.URL
	if where == "" {
		where = "http://" + ln.Addr().String() + "/"
	}
	leave, err := r.begin(ctx, where)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: time.Minute}
	var serving sync.WaitGroup
	broken := make(chan error, 1)
	serving.Go(func() { broken <- server.Serve(ln) })
	select {
	case <-ctx.Done():
	case <-r.enough:
	case err = <-broken:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	left := leave(end) // first, so that nothing comes any more
	if server.Shutdown(end) != nil {
		_ = server.Close()
	}
	serving.Wait()
	return errors.Join(err, left, r.sum())
}

// begin registers an endpoint, or says what to give to the sender. leave undoes it.
func (r *receiver) begin(ctx context.Context, where string) (leave func(context.Context) error, err error) {
	stay := func(context.Context) error { return nil }
	switch r.cfg.Secret {
	case "":
	case newSecret:
		s := signature.NewSecret()
		r.verifier.Keys = []signature.Checker{s}
		r.note("url     %s\nsecret  %s\nwaiting for webhooks; Ctrl-C ends\n", visible(where), s.Text())
		return stay, nil
	default:
		key, err := parseKey(r.cfg.Secret)
		if err != nil {
			return nil, wrong("--secret: %v", err)
		}
		r.verifier.Keys = []signature.Checker{key}
		r.note("url     %s\nwaiting for webhooks; Ctrl-C ends\n", visible(where))
		return stay, nil
	}
	host, _ := os.Hostname() // the description can do without
	description := clipped("tickwire listen, "+visible(host), maxDescription)
	if err := r.tidy(ctx, description); err != nil {
		return nil, err
	}
	var e endpoint
	err = r.cfg.API.ask(ctx, http.MethodPost, "/v1/endpoints", map[string]any{
		"url": where, "description": description, "event_types": append([]string{}, r.cfg.Events...),
	}, &e)
	if err != nil {
		return nil, r.explain(err, where)
	}
	leave = func(ctx context.Context) error {
		err := r.cfg.API.ask(ctx, http.MethodDelete, "/v1/endpoints/"+url.PathEscape(e.ID), nil, nil)
		var p *problem
		if err == nil || errors.As(err, &p) && p.Status == http.StatusNotFound { // somebody else has deleted it
			return nil
		}
		return fmt.Errorf("delete the endpoint %s: %w", visible(e.ID), err)
	}
	for _, s := range e.Secrets {
		if key, err := signature.ParseSecret(s.Text); err == nil {
			r.verifier.Keys = append(r.verifier.Keys, key)
		}
	}
	if len(r.verifier.Keys) == 0 {
		return nil, errors.Join(errors.New("the server has not told the endpoint's secret"), leave(ctx))
	}
	r.note("endpoint %s at %s\nwaiting for events; Ctrl-C ends\n", visible(e.ID), visible(where))
	return leave, nil
}

const maxDescription = 200

// tidy deletes endpoints that earlier runs on this machine have left behind, because they were killed: they have our
// description, and nobody listens there.
func (r *receiver) tidy(ctx context.Context, description string) error {
	var p struct {
		Items []endpoint `json:"items"`
	}
	err := r.cfg.API.ask(ctx, http.MethodGet, "/v1/endpoints?limit=1000", nil, &p)
	var refused *problem
	switch {
	case errors.As(err, &refused) && refused.Status == http.StatusForbidden:
		return nil // a key that may only write can listen all the same
	case err != nil:
		return err
	}
	for _, e := range p.Items {
		if e.Description != description || !abandoned(ctx, e.URL) {
			continue
		}
		if err := r.cfg.API.ask(ctx, http.MethodDelete, "/v1/endpoints/"+url.PathEscape(e.ID), nil, nil); err != nil {
			return fmt.Errorf("delete the endpoint %s of an earlier run: %w", visible(e.ID), err)
		}
		r.note("deleted the endpoint %s of an earlier run, where nobody listens\n", visible(e.ID))
	}
	return nil
}

// abandoned tells whether a URL is of this machine, and nobody listens there.
func abandoned(ctx context.Context, text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err != nil || !addr.IsLoopback() {
		return false
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err == nil {
		_ = conn.Close() // it was only to see
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// parseKey reads what signatures are verified by.
func parseKey(text string) (signature.Checker, error) {
	if strings.HasPrefix(text, "whpk_") {
		return signature.ParsePublicKey(text)
	}
	return signature.ParseSecret(text)
}

// explain adds what helps when the server will not send here.
func (r *receiver) explain(err error, where string) error {
	var p *problem
	if !errors.As(err, &p) || p.Param != "url" {
		return err
	}
	u, parsed := url.Parse(where)
	if parsed != nil || r.cfg.URL != "" {
		return err
	}
	return fmt.Errorf("the server may not send to %s (%w): start it with --webhook-allow-nets %s/32 --webhook-allow-ports 443,%s, or give a tunnel's URL by --url",
		visible(u.Host), err, visible(u.Hostname()), visible(u.Port()))
}

func (r *receiver) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(r.notes, format, args...) // there is nobody to tell
}

// ServeHTTP takes a webhook.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case r.room <- struct{}{}:
		defer func() { <-r.room }()
	default:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "webhooks come by POST", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		r.reject(w, http.StatusRequestEntityTooLarge, err)
		return
	}
	h := req.Header
	id := h.Get(signature.HeaderID)
	if _, err := r.verifier.Verify(id, h.Get(signature.HeaderTimestamp), h.Get(signature.HeaderSignature), body); err != nil {
		r.reject(w, http.StatusUnauthorized, err)
		return
	}
	status := http.StatusNoContent
	if r.cfg.Forward != "" {
		status = r.pass(w, req, body)
	} else {
		w.WriteHeader(status)
	}
	r.take(id, body, status)
}

func (r *receiver) reject(w http.ResponseWriter, status int, err error) {
	http.Error(w, err.Error(), status)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rejected++
	_, _ = fmt.Fprintf(r.notes, "%s  rejected: %s\n", time.Now().Format(clockForm), visible(err.Error()))
}

const clockForm = "15:04:05.000"

// take prints an event, and counts it.
func (r *receiver) take(id string, body []byte, status int) {
	line := visibleJSON(body)
	if !r.cfg.JSON {
		line = time.Now().Format(clockForm) + "  " + describe(id, body)
		if r.cfg.Forward != "" {
			line += fmt.Sprintf("  → %d", status)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events++
	if r.repeated(id) {
		r.again++
		if !r.cfg.JSON {
			line += "  (again)"
		}
	}
	_, _ = fmt.Fprintln(r.out, line) // a closed pipe ends the process
	if r.events == r.cfg.Count {
		close(r.enough)
	}
}

// repeated tells whether an event has come before, among the last ones. r.mu is held.
func (r *receiver) repeated(id string) bool {
	if r.seen[id] {
		return true
	}
	if len(r.order) == remembered {
		delete(r.seen, r.order[0])
		r.order = r.order[1:]
	}
	r.seen[id] = true
	r.order = append(r.order, id)
	return false
}

// hops are headers that belong to one connection.
var hops = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Host", "Content-Length", "Accept-Encoding"}

// pass passes a request on, and the answer back.
func (r *receiver) pass(w http.ResponseWriter, req *http.Request, body []byte) (status int) {
	fail := func(err error) int {
		r.mu.Lock()
		r.failed++
		r.mu.Unlock()
		r.note("%s  not passed on: %s\n", time.Now().Format(clockForm), visible(err.Error()))
		http.Error(w, "the receiver behind this one does not answer", http.StatusBadGateway)
		return http.StatusBadGateway
	}
	on, err := http.NewRequestWithContext(req.Context(), http.MethodPost, r.cfg.Forward, bytes.NewReader(body))
	if err != nil {
		return fail(err)
	}
	on.Header = req.Header.Clone()
	for _, name := range hops {
		on.Header.Del(name)
	}
	resp, err := r.client.Do(on)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fail(err)
	}
	for _, name := range []string{"Content-Type", "Retry-After"} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // the sender has gone
	r.mu.Lock()
	defer r.mu.Unlock()
	if resp.StatusCode/100 == 2 {
		r.passed++
	} else {
		r.failed++
	}
	return resp.StatusCode
}

// sum says what has come, and returns an error when not everything was good.
func (r *receiver) sum() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("%d events", r.events)
	if r.again > 0 {
		line += fmt.Sprintf(", %d of them again", r.again)
	}
	if r.cfg.Forward != "" {
		line += fmt.Sprintf("; %d passed on, %d not taken", r.passed, r.failed)
	}
	if r.rejected > 0 {
		line += fmt.Sprintf("; %d requests rejected", r.rejected)
	}
	_, _ = fmt.Fprintln(r.notes, line)
	switch {
	case r.rejected > 0:
		return fmt.Errorf("%d requests were rejected", r.rejected)
	case r.failed > 0:
		return fmt.Errorf("%d events were not taken by %s", r.failed, visible(r.cfg.Forward))
	}
	return nil
}
