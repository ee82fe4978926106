package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// text is what a command prints, readable meanwhile.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *text) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// await waits until a text has been printed.
func (w *text) await(t *testing.T, want string) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(w.String(), want) {
			return fmt.Errorf("%q does not come:\n%s", want, w)
		}
		return nil
	})
}

// server answers as the API would: to "METHOD /path" with a status and a body.
func server(t *testing.T, answers map[string]any) (addr string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var requests []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		requests = append(requests, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization")+r.Header.Get("Tickwire-Tenant")+" "+string(body))
		mu.Unlock()
		a, ok := answers[r.Method+" "+r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			a = map[string]any{"status": 404, "code": "not_found", "detail": "there is no such \x1b[2Jthing"}
		}
		if p, ok := a.(problem); ok {
			w.WriteHeader(p.Status)
		}
		_ = json.NewEncoder(w).Encode(a)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(requests) }
}

// command runs a command line of `tickwire alert`.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	root := &cobra.Command{Use: "tickwire", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Command())
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(Args(append([]string{"alert"}, args...)))
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestCreate(t *testing.T) {
	addr, asked := server(t, map[string]any{"POST /v1/alerts": map[string]any{
		"id": "al_1", "sym": "BTC-USDT", "state": "active", "rule": map[string]string{"series": "change_pct", "window": "1h", "op": "at_or_below", "limit": "-2.5", "mode": "recurring"},
		"valid_from": map[string]string{"value": "0.3\x1b]0;x\a"},
	}})
	out, err := command(t, "create", "BTC-USDT", "change_pct", "at_or_below", "-2.5", "--window", "1h", "--recurring", "--hysteresis", "0.5", "--cooldown=5m", "--hold-for", "30s",
		"--expires", "2040-01-01T00:00:00Z", "--endpoint", "ep_1,ep_2", "--name", "a, b", "--label", "x", "--metadata", `{"a":1}`, "--addr", addr, "--key", "tw_live_x", "--tenant", ":ten_1")
	if err != nil || out != `al_1  BTC-USDT change_pct(1h) at_or_below -2.5, recurring  (active; change_pct was 0.3\u001b]0;x\u0007)`+"\n" {
		t.Errorf("%q, %v", out, err)
	}
	want := `POST /v1/alerts Bearer tw_live_x:ten_1 {"sym":"BTC-USDT","rule":{"series":"change_pct","window":"1h","op":"at_or_below","limit":"-2.5","mode":"recurring","hysteresis":"0.5","cooldown":"5m","hold_for":"30s","expires_at":"2040-01-01T00:00:00Z"},"name":"a, b","endpoints":["ep_1","ep_2"],"labels":["x"],"metadata":{"a":1}}`
	if got := asked(); len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
	if out, err := command(t, "create", "BTC-USDT", "last", "crosses_above", "1", "--json", "--addr", "http://"+addr+"/"); err != nil || !strings.HasPrefix(out, `{"id":"al_1",`) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestWrongCommands(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		_, err := command(t, args...)
		if !errors.As(err, new(UsageError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	f("name an instrument", "create", "BTC-USDT", "last", "crosses_above")
	f("--expires", "create", "BTC-USDT", "last", "crosses_above", "1", "--expires", "soon")
	f("--metadata", "create", "BTC-USDT", "last", "crosses_above", "1", "--metadata", "{")
	f("--addr", "create", "BTC-USDT", "last", "crosses_above", "1", "--addr", "http://")
	f("--addr", "list", "--addr", "ftp://x")
	f("--addr", "list", "--addr", "http://x/v1")
	f("--max", "list", "--max", "0")
	f("name alerts", "rm")
}

func TestErrors(t *testing.T) {
	addr, _ := server(t, map[string]any{
		"POST /v1/alerts":              problem{Status: 404, Code: "unknown_symbol", Detail: "there is no instrument BTC-USD; did you mean BTC-USDT?", Param: "sym"},
		"GET /v1/alerts":               problem{Status: 401, Code: "auth_required", Detail: "x"},
		"GET /v1/endpoints":            map[string]any{"items": []endpoint{{ID: "ep_1", URL: "https://example.com/\x1b[m", State: "enabled"}}},
		"POST /v1/endpoints/ep_1/test": map[string]any{"ok": false, "status": 500, "error": "HTTP 500", "response": "oh\x1bno"},
		"POST /v1/endpoints/ep_2/test": map[string]any{"ok": true, "status": 204, "took_ms": 12.3},
		"DELETE /v1/alerts/al_1":       map[string]any{},
	})
	f := func(out, want string, args ...string) {
		t.Helper()
		got, err := command(t, append(args, "--addr", addr)...)
		if got != out || want != fmt.Sprint(err) {
			t.Errorf("%v: %q, %v", args, got, err)
		}
	}
	f("", "sym: there is no instrument BTC-USD; did you mean BTC-USDT?", "create", "BTC-USD", "last", "crosses_above", "1")
	f("", "the server wants to know who asks: give an API key by --key or TICKWIRE_KEY", "list")
	f("", `the endpoint has not taken it: HTTP 500; it says: oh\u001bno`, "test", "ep_1")
	f("taken: 204 after 12 ms\n", "<nil>", "test", "ep_2")
	f("", `name an endpoint:`+"\n"+`  ep_1  https://example.com/\u001b[m  (enabled)`, "test")
	f("deleted al_1\n", `al_2: there is no such \u001b[2Jthing`, "rm", "al_1", "al_2")
	page := httptest.NewServer(http.NotFoundHandler())
	defer page.Close()
	if _, err := command(t, "list", "--addr", page.URL); err == nil || !strings.Contains(err.Error(), "does not look like Tickwire's alerts API") {
		t.Error(err)
	}
	page.Close()
	if _, err := command(t, "list", "--addr", page.URL); err == nil || !strings.Contains(err.Error(), "nothing listens at "+page.URL) {
		t.Error(err)
	}
}

func TestList(t *testing.T) {
	fired := "2026-11-26T00:00:00Z"
	addr, asked := server(t, map[string]any{"GET /v1/alerts": map[string]any{
		"items": []alert{
			{ID: "al_2", Sym: "BTC-USDT", Name: "a\x1b[31mb", State: "active", Rule: rule{Series: "last", Op: "crosses_above", Limit: "65000"}},
			{ID: "al_1", Sym: "ETH-USDT", State: "fired", Fires: 1, LastFired: &fired, Rule: rule{Series: "volume_ratio", Window: "5m", Window2: "1h", Op: "at_or_above", Limit: "3"}},
		},
		"next": "al_1",
	}})
	out, err := command(t, "list", "--addr", addr, "--max", "3", "--state", "active", "--sym", "BTC-USDT", "--label", "a&b")
	lines := strings.Split(out, "\n")
	if err != nil || len(lines) != 7 || !strings.HasPrefix(lines[0], "ID    INSTRUMENT  RULE  ") || !strings.Contains(lines[1], `a\u001b[31mb`) ||
		!strings.Contains(lines[2], "volume_ratio(5m,1h) at_or_above 3  fired") || lines[5] != "… and more; see --max" {
		t.Errorf("%v\n%s", err, out)
	}
	if got := asked(); len(got) != 2 || !strings.HasPrefix(got[1], "GET /v1/alerts?after=al_1&label=a%26b&limit=1&state=active&sym=BTC-USDT ") {
		t.Errorf("%q", got)
	}
	out, err = command(t, "list", "--addr", addr, "--max", "2", "--json")
	if err != nil || strings.Count(out, "\n") != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("%v\n%s", err, out)
	}
	addr, _ = server(t, map[string]any{"GET /v1/alerts": map[string]any{"items": []alert{}, "next": nil}})
	if out, err := command(t, "list", "--addr", addr); err != nil || out != "no alerts\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestVisible(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := visible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f("plain, Bitcoïn 🚀", "plain, Bitcoïn 🚀")
	f("a\x1b[31m\r\n\x00", `a\u001b[31m\u000d\u000a\u0000`)
	f("\u009b31m", `\u009b31m`)
	f("\u202Eabc\u2066", `\u202eabc\u2066`)
	f("\xff", `\ufffd`)
	f("\U000E0041", `\udb40\udc41`)
	if got := visibleJSON([]byte("{\n \"a\": \"x\u009b\u202e\"}")); got != `{"a":"x\u009b\u202e"}` || !json.Valid([]byte(got)) {
		t.Error(got)
	}
	if got := visibleJSON([]byte("no\x1bjson")); got != `"no\x1bjson"` {
		t.Error(got)
	}
}

// listening runs `tickwire listen` until the test ends it.
type listening struct {
	t          *testing.T
	out, notes text
	end        func() error
	url        string
	key        signature.Secret
}

func listen(t *testing.T, change func(*ListenConfig)) *listening {
	t.Helper()
	key := signature.NewSecret()
	cfg := ListenConfig{API: defaultAPI(), Listen: "127.0.0.1:0", Secret: key.Text()}
	if change != nil {
		change(&cfg)
	}
	l := &listening{t: t, key: key}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Listen(ctx, cfg, &l.out, &l.notes) }()
	l.end = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = l.end() })
	l.notes.await(t, "Ctrl-C ends")
	for _, word := range strings.Fields(l.notes.String()) {
		if strings.HasPrefix(word, "http://127.0.0.1") {
			l.url = word
		}
	}
	return l
}

// send sends a webhook, signed by key.
func (l *listening) send(id, body string, key signature.Key) (int, string) {
	l.t.Helper()
	now := time.Now()
	sig, err := signature.Sign(signature.Message{ID: id, At: now, Body: []byte(body)}, key)
	if err != nil {
		l.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.url, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(signature.HeaderID, id)
	req.Header.Set(signature.HeaderTimestamp, fmt.Sprint(now.Unix()))
	req.Header.Set(signature.HeaderSignature, sig)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

const fire = `{"id":"evt_1","type":"alert.fired","timestamp":"2026-11-26T00:00:00Z","data":{"object":{"alert":"al_1","name":"big\u001b[2J one","sym":"BTC-USDT",
	"series":"last","op":"crosses_above","limit":"65000","value":"65000.5","prev":"64999.9","after_gap":true,"rule":{"series":"last","op":"crosses_above","limit":"65000"}}}}`

func TestListen(t *testing.T) {
	l := listen(t, nil)
	f := func(status int, id, body string, key signature.Key) {
		t.Helper()
		if got, _ := l.send(id, body, key); got != status {
			t.Errorf("%s: %d, want %d", id, got, status)
		}
	}
	f(204, "evt_1", fire, l.key)
	f(204, "evt_1", fire, l.key)
	f(204, "evt_2", `{"id":"evt_2","type":"test","data":{"object":{"message":"hi`+"\u009b"+`"}}}`, l.key)
	f(204, "evt_3", "not\x1bJSON", l.key)
	f(401, "evt_4", fire, signature.NewSecret())
	if resp, err := http.Get(l.url); err != nil || resp.StatusCode != 405 { //nolint:noctx // a test
		t.Error(resp, err)
	}
	if err := l.end(); err == nil || err.Error() != "1 requests were rejected" {
		t.Error(err)
	}
	lines := strings.Split(l.out.String(), "\n")
	for i, want := range []string{
		`alert.fired  BTC-USDT last crosses_above 65000: 65000.5, before 64999.9 (after a gap)  big\u001b[2J one  evt_1`,
		`big\u001b[2J one  evt_1  (again)`,
		`test  {"message":"hi\u009b"}  evt_2`,
		`evt_3  "not\x1bJSON"`,
	} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("%q, want …%q", lines[i], want)
		}
	}
	if s := l.out.String() + l.notes.String(); strings.ContainsAny(s, "\x1b\u009b") || !strings.Contains(s, "4 events, 1 of them again; 1 requests rejected") {
		t.Errorf("%q", s)
	}
}

func TestListenJSON(t *testing.T) {
	l := listen(t, func(c *ListenConfig) { c.JSON, c.Count = true, 1 })
	l.send("evt_1", fire, l.key)
	if err := l.end(); err != nil {
		t.Error(err)
	}
	if out := l.out.String(); strings.Count(out, "\n") != 1 || !json.Valid([]byte(out)) {
		t.Errorf("%q", out)
	}
}

func TestForward(t *testing.T) {
	var got *http.Request
	var body []byte
	status := 201
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(status)
		_, _ = w.Write([]byte("made"))
	}))
	defer behind.Close()
	l := listen(t, func(c *ListenConfig) { c.Forward = behind.URL + "/hooks" })
	if status, answer := l.send("evt_1", fire, l.key); status != 201 || answer != "made" {
		t.Error(status, answer)
	}
	v := signature.Verifier{Keys: []signature.Checker{l.key}}
	h := got.Header
	if _, err := v.Verify(h.Get(signature.HeaderID), h.Get(signature.HeaderTimestamp), h.Get(signature.HeaderSignature), body); err != nil || got.URL.Path != "/hooks" {
		t.Error(err, got.URL)
	}
	got = nil
	if status, _ := l.send("evt_2", fire, signature.NewSecret()); status != 401 || got != nil {
		t.Error("what is not signed is passed on")
	}
	status = 500
	if status, _ := l.send("evt_3", fire, l.key); status != 500 {
		t.Error(status)
	}
	status = 302
	if status, _ := l.send("evt_4", fire, l.key); status != 302 {
		t.Error(status)
	}
	behind.Close()
	if status, _ := l.send("evt_5", fire, l.key); status != 502 {
		t.Error(status)
	}
	if err := l.end(); err == nil || !strings.Contains(l.notes.String(), "4 events; 1 passed on, 3 not taken; 1 requests rejected") {
		t.Errorf("%v: %s", err, l.notes.String())
	}
}

// TestRegister has an endpoint with the API for as long as it listens.
func TestRegister(t *testing.T) {
	key := signature.NewSecret()
	here, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	there := httptest.NewServer(http.NotFoundHandler())
	defer there.Close()
	mine := "tickwire listen, " + here
	addr, asked := server(t, map[string]any{
		"GET /v1/endpoints": map[string]any{"items": []endpoint{
			{ID: "ep_7", URL: "http://127.0.0.1:1/", Description: "another's"},
			{ID: "ep_8", URL: there.URL, Description: mine},
			{ID: "ep_9", URL: "http://127.0.0.1:1/", Description: mine},
		}},
		"DELETE /v1/endpoints/ep_9": map[string]any{},
		"POST /v1/endpoints":        map[string]any{"id": "ep_1", "secrets": []any{map[string]string{"secret": key.Text()}}},
		"DELETE /v1/endpoints/ep_1": map[string]any{},
	})
	l := listen(t, func(c *ListenConfig) { c.API.Addr, c.Secret, c.Events, c.Count = addr, "", []string{"alert.fired"}, 1 })
	if status, _ := l.send("evt_1", fire, key); status != 204 {
		t.Error(status)
	}
	l.notes.await(t, "1 events")
	if err := l.end(); err != nil {
		t.Error(err)
	}
	got := asked()
	if len(got) != 4 || !strings.HasPrefix(got[1], "DELETE /v1/endpoints/ep_9") || !strings.Contains(got[2], `"event_types":["alert.fired"]`) ||
		!strings.Contains(got[2], `"url":"`+l.url+`"`) || !strings.HasPrefix(got[3], "DELETE /v1/endpoints/ep_1") {
		t.Errorf("%q", got)
	}
	// A key that may not read endpoints can make one all the same.
	addr, _ = server(t, map[string]any{
		"GET /v1/endpoints":         problem{Status: 403, Code: "forbidden", Detail: "the key lacks the scope endpoints:read"},
		"POST /v1/endpoints":        map[string]any{"id": "ep_1", "secrets": []any{map[string]string{"secret": key.Text()}}},
		"DELETE /v1/endpoints/ep_1": map[string]any{},
	})
	l = listen(t, func(c *ListenConfig) { c.API.Addr, c.Secret, c.Count = addr, "", 1 })
	if status, _ := l.send("evt_1", fire, key); status != 204 {
		t.Error(status)
	}
	if err := l.end(); err != nil {
		t.Error(err)
	}
	addr, _ = server(t, map[string]any{"GET /v1/endpoints": map[string]any{}, "POST /v1/endpoints": problem{Status: 422, Code: "invalid", Param: "url", Detail: "the host's address is not one that webhooks may be sent to"}})
	err = Listen(t.Context(), ListenConfig{API: API{Addr: addr}, Listen: "127.0.0.1:0"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "--webhook-allow-nets 127.0.0.1/32 --webhook-allow-ports 443,") {
		t.Error(err)
	}
	for _, cfg := range []ListenConfig{
		{Listen: "x", API: defaultAPI()},
		{Listen: ":0", Forward: "x", API: defaultAPI()},
		{Listen: ":0", URL: "ftp://x", API: defaultAPI()},
		{Listen: ":0", Count: -1, API: defaultAPI()},
		{Listen: "127.0.0.1:0", Secret: "x", API: defaultAPI()},
	} {
		if err := Listen(t.Context(), cfg, io.Discard, io.Discard); !errors.As(err, new(UsageError)) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
