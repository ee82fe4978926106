package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/openapitest"
	"github.com/tickwire/tickwire/services/webhook/deliver"
	"github.com/tickwire/tickwire/services/webhook/store"
)

const adminToken = "an-admin-token-for-tests-alone-0123456789"

// desk is an API on a database of its own.
type desk struct {
	t   *testing.T
	api *api
	st  *store.Store
	doc *openapitest.Document

	mu  sync.Mutex
	now time.Time // of the API's clock; zero: the real one
}

func openStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Ephemeral: true, Quota: store.Quota{Alerts: 2000, Endpoints: 5}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func newDesk(t *testing.T, change func(*APIConfig)) *desk {
	t.Helper()
	d := &desk{t: t, st: openStore(t), doc: openapitest.Read(t, openapiYAML)}
	dc := deliver.DefaultConfig()
	dc.AllowNets, dc.AllowPorts = []string{"127.0.0.0/8"}, []string{"443", "1024-65535"}
	sender, err := deliver.New(dc, deliver.Deps{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultAPIConfig()
	cfg.Rate, cfg.MaxAlerts, cfg.MaxEndpoints = 0, 2000, 5
	if change != nil {
		change(&cfg)
	}
	d.api, err = newAPI(cfg, apiDeps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Store: d.st, Sender: sender, AdminToken: adminToken, Now: d.clock})
	if err != nil {
		t.Fatal(err)
	}
	err = d.st.PutInstruments(t.Context(), []store.Instrument{
		{Sym: "BTC-USDT", Inst: 7, PriceScale: 2, SizeScale: 5, State: "live"},
		{Sym: "ETH-USDT", Inst: 8, PriceScale: 2, SizeScale: 4, State: "live"},
		{Sym: "OLD-USDT", Inst: 9, PriceScale: 2, SizeScale: 4, State: "delisted"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now.IsZero() {
		return time.Now()
	}
	return d.now
}

func (d *desk) set(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = now
}

// ask makes a request and holds the answer to the document. Headers are "Name: value".
func (d *desk) ask(method, target, body string, headers ...string) *fasthttp.Response {
	d.t.Helper()
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(target)
	req.Header.SetHost("127.0.0.1:8082")
	if body != "" {
		req.Header.SetContentType("application/json")
		req.SetBodyString(body)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil)
	d.api.handler(&ctx)
	_, pattern, _ := find(string(ctx.Path()))
	if m := strings.ToLower(method); pattern != "other" && pattern != openapiPath && m != "options" && ctx.Response.StatusCode() != http.StatusMethodNotAllowed {
		if m == "head" {
			m = "get"
		}
		d.doc.Check(d.t, m, pattern, &ctx.Response)
	}
	return &ctx.Response
}

// want is ask, and the status that must come of it; into gets the body.
func (d *desk) want(status int, into any, method, target, body string, headers ...string) *fasthttp.Response {
	d.t.Helper()
	r := d.ask(method, target, body, headers...)
	if r.StatusCode() != status {
		d.t.Fatalf("%s %s %s: %d %s, want %d", method, target, body, r.StatusCode(), r.Body(), status)
	}
	if into != nil {
		reflect.ValueOf(into).Elem().SetZero()
		if err := json.Unmarshal(r.Body(), into); err != nil {
			d.t.Fatalf("%s: %v", r.Body(), err)
		}
	}
	return r
}

// problem is want for what goes wrong.
func (d *desk) problem(status int, code, param, method, target, body string, headers ...string) string {
	d.t.Helper()
	var p struct{ Code, Param, Detail string }
	d.want(status, &p, method, target, body, headers...)
	if p.Code != code || p.Param != param {
		d.t.Errorf("%s %s %s: %s of %q (%s), want %s of %q", method, target, body, p.Code, p.Param, p.Detail, code, param)
	}
	return p.Detail
}

const asAdmin = "Authorization: Bearer " + adminToken

// tenant makes a tenant and a key of it, and returns the header for it.
func (d *desk) tenant(name string, scopes ...string) (key, id string) {
	d.t.Helper()
	var t struct{ ID string }
	d.want(201, &t, "POST", "/v1/tenants", fmt.Sprintf(`{"name":%q}`, name), asAdmin)
	return d.key(t.ID, scopes...), t.ID
}

func (d *desk) key(tenant string, scopes ...string) string {
	d.t.Helper()
	body := map[string]any{"name": "test"}
	if len(scopes) > 0 {
		body["scopes"] = scopes
	}
	text, err := json.Marshal(body)
	if err != nil {
		d.t.Fatal(err)
	}
	var k struct{ Secret string }
	d.want(201, &k, "POST", "/v1/keys", string(text), asAdmin, "Tickwire-Tenant: "+tenant)
	return "Authorization: Bearer " + k.Secret
}

// own takes partition 0 over as its owner would, until the test ends: every alert is active at once.
func (d *desk) own() (lease func() store.Lease) {
	d.t.Helper()
	d.api.settle = time.Minute // however busy the machine is
	ctx, cancel := context.WithCancel(d.t.Context())
	var once sync.Once
	ready := make(chan struct{})
	var mine store.Lease
	var work sync.WaitGroup
	work.Go(func() {
		err := d.st.Own(ctx, store.KindPartition, 1, func(ctx context.Context, l store.Lease) error {
			once.Do(func() { mine = l; close(ready) })
			for offset := int64(100); ; offset++ {
				select {
				case <-ctx.Done():
					return nil
				case <-d.st.Changed():
				}
				if err := d.apply(ctx, l, offset); err != nil && ctx.Err() == nil {
					return err
				}
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			d.t.Error(err)
		}
	})
	d.t.Cleanup(func() { cancel(); work.Wait() })
	return func() store.Lease { <-ready; return mine }
}

func (d *desk) apply(ctx context.Context, l store.Lease, offset int64) error {
	changed, err := d.st.Changes(ctx, 0, 5000)
	if err != nil {
		return err
	}
	c := store.Commit{Lease: l, LogID: "log", Offset: offset, Clock: market.FromTime(time.Now())}
	for i := range changed {
		al := &changed[i]
		state := al.State
		if state == store.AlertPending {
			state = store.AlertActive
		}
		al.Eval.ValidFrom, al.Eval.Clock, al.Eval.Value = offset, c.Clock, "61737.64"
		c.Applied = append(c.Applied, store.Applied{Alert: al.Num, Version: al.Version, Eval: al.Eval, State: state})
	}
	return d.st.Commit(ctx, &c)
}

// receiver is a server of a user's that takes everything.
func receiver(t *testing.T, status int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte("thank\x1byou"))
	}))
	t.Cleanup(s.Close)
	return s
}

const simple = `{"sym":"BTC-USDT","rule":{"series":"last","op":"crosses_above","limit":"65000.5"}}`

func TestAlerts(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, _ := d.tenant("acme")
	var al alert
	r := d.want(201, &al, "POST", "/v1/alerts", simple, k)
	if al.State != "active" || al.ValidFrom == nil || *al.ValidFrom.Value != "61737.64" || al.Name != "" || string(r.Header.Peek("Location")) != "/v1/alerts/"+al.ID {
		t.Errorf("%s\n%s", r.Body(), r.Header.String())
	}
	// The spelling of a rule is ours.
	if got := string(al.Rule); got != `{"series":"last","op":"crosses_above","limit":"65000.5","mode":"once","on_gap":"fire"}` {
		t.Error(got)
	}
	var ep struct{ ID string }
	d.want(201, &ep, "POST", "/v1/endpoints", `{"url":"https://example.com/hook"}`, k)
	d.want(201, &al, "POST", "/v1/alerts", `{"sym":"eth-usdt","name":"Bitcoïn 🚀","labels":["a","b"],"metadata":{"chat":[1,{"x":null}]},"endpoints":["`+ep.ID+`"],
		"rule":{"series":"change_pct","window":"90m","op":"at_or_below","limit":"-2.5","mode":"recurring","hysteresis":"0.5","cooldown":"5m","hold_for":"30s","expires_at":"2040-01-01T00:00:00Z","on_gap":"reset"}}`, k)
	if al.Sym != "ETH-USDT" || al.Name != "Bitcoïn 🚀" || string(al.Metadata) != `{"chat":[1,{"x":null}]}` || len(al.Endpoints) != 1 {
		t.Errorf("%+v", al)
	}
	eth := "/v1/alerts/" + al.ID
	r = d.want(200, &al, "GET", eth, "", k)
	tag := string(r.Header.Peek("ETag"))

	// A name is changed without the rule beginning anew; the rule is not.
	d.want(200, &al, "PATCH", eth, `{"name":"eth"}`, k, "If-Match: "+tag)
	d.problem(412, "precondition", "If-Match", "PATCH", eth, `{"name":"eth 2"}`, k, "If-Match: "+tag)
	if al.Name != "eth" || len(al.Labels) != 2 || al.Metadata == nil {
		t.Errorf("%+v", al)
	}
	from := al.ValidFrom.Offset
	d.want(200, &al, "PATCH", eth, `{"rule":{"series":"last","op":"crosses_below","limit":"1"},"metadata":null,"labels":[],"endpoints":[]}`, k)
	if al.ValidFrom.Offset == from || al.Metadata != nil || len(al.Labels) != 0 || len(al.Endpoints) != 0 || al.Name != "eth" {
		t.Errorf("%+v", al)
	}
	d.want(200, &al, "POST", eth+"/pause", "", k)
	if al.State != "paused" {
		t.Error(al.State)
	}
	d.want(200, &al, "POST", eth+"/resume", "{}", k)
	if al.State != "active" {
		t.Error(al.State)
	}
	if r := d.want(204, nil, "DELETE", eth, "", k); len(r.Body()) != 0 {
		t.Errorf("%s", r.Body())
	}
	d.problem(404, "not_found", "", "GET", eth, "", k)
	d.problem(404, "not_found", "", "DELETE", eth, "", k)
}

// TestPending is an alert whose partition nobody owns.
func TestPending(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	var al alert
	begin := time.Now()
	d.want(202, &al, "POST", "/v1/alerts", simple, k, "Idempotency-Key: one")
	if took := time.Since(begin); al.State != "pending" || al.ValidFrom != nil || took < activeTimeout || took > 2*activeTimeout {
		t.Errorf("%+v after %v", al, took)
	}
	r := d.want(202, &al, "POST", "/v1/alerts", simple, k, "Idempotency-Key: one")
	if string(r.Header.Peek("Idempotency-Replayed")) != "true" {
		t.Error(r.Header.String())
	}
}

func TestBadAlerts(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, _ := d.tenant("acme")
	f := func(status int, code, param, body string) string {
		t.Helper()
		return d.problem(status, code, param, "POST", "/v1/alerts", body, k)
	}
	rule := `"rule":{"series":"last","op":"crosses_above","limit":"1"}`
	f(400, "bad_request", "", `{"sym":`)
	f(400, "bad_request", "", "{\"sym\":\"BTC-USDT\xff\"}")
	f(400, "bad_request", "", strings.Repeat("[", 100)+strings.Repeat("]", 100))
	f(400, "bad_request", "", simple+simple)
	f(422, "invalid", "", `[]`)
	f(422, "invalid", "sym", `{}`)
	f(422, "invalid", "rule", `{"sym":"BTC-USDT"}`)
	f(422, "invalid", "sym", `{"sym":7,`+rule+`}`)
	f(422, "invalid", "sym", `{"sym":null,`+rule+`}`)
	f(422, "invalid", "Sym", `{"sym":"BTC-USDT","Sym":"BTC-USDT",`+rule+`}`)
	f(422, "invalid", "sym", `{"sym":"BTC-USDT","sym":"BTC-USDT",`+rule+`}`)
	f(422, "invalid", "colour", `{"sym":"BTC-USDT","colour":"red",`+rule+`}`)
	f(422, "invalid", "name", `{"sym":"BTC-USDT","name":"a\nb",`+rule+`}`)
	f(422, "invalid", "name", `{"sym":"BTC-USDT","name":"\u001b[31m",`+rule+`}`)
	f(422, "invalid", "name", `{"sym":"BTC-USDT","name":"`+strings.Repeat("x", 201)+`",`+rule+`}`)
	f(422, "invalid", "labels[1]", `{"sym":"BTC-USDT","labels":["a","a"],`+rule+`}`)
	f(422, "invalid", "labels[0]", `{"sym":"BTC-USDT","labels":[""],`+rule+`}`)
	f(422, "invalid", "metadata", `{"sym":"BTC-USDT","metadata":"x",`+rule+`}`)
	f(422, "invalid", "metadata", `{"sym":"BTC-USDT","metadata":{"x":"`+strings.Repeat("x", 5000)+`"},`+rule+`}`)
	f(422, "invalid", "endpoints[0]", `{"sym":"BTC-USDT","endpoints":["x"],`+rule+`}`)
	f(422, "invalid", "endpoints[0]", `{"sym":"BTC-USDT","endpoints":["`+store.FormatID(store.EndpointPrefix, store.NewID())+`"],`+rule+`}`)
	f(422, "invalid", "rule.limit", `{"sym":"BTC-USDT","rule":{"series":"last","op":"crosses_above","limit":"1.234"}}`)
	f(422, "invalid", "rule.limit", `{"sym":"BTC-USDT","rule":{"series":"last","op":"crosses_above","limit":1}}`)
	f(422, "invalid", "rule.op", `{"sym":"BTC-USDT","rule":{"series":"last","op":"explodes","limit":"1"}}`)
	f(422, "invalid", "rule.window", `{"sym":"BTC-USDT","rule":{"series":"change_pct","op":"at_or_above","limit":"1"}}`)
	f(422, "invalid", "rule.window", `{"sym":"BTC-USDT","rule":{"series":"volume","op":"at_or_above","limit":"1","window":"25h"}}`)
	f(422, "invalid", "rule.x", `{"sym":"BTC-USDT","rule":{"series":"last","op":"crosses_above","limit":"1","x":1}}`)
	if detail := f(404, "unknown_symbol", "sym", `{"sym":"BTC-USD",`+rule+`}`); !strings.Contains(detail, "did you mean BTC-USDT?") {
		t.Error(detail)
	}
	f(404, "unknown_symbol", "sym", `{"sym":"NO-SUCH-THING",`+rule+`}`)
	f(409, "delisted", "sym", `{"sym":"OLD-USDT",`+rule+`}`)
	d.problem(415, "media_type", "", "POST", "/v1/alerts", "", k, "Content-Type: text/plain")
	d.problem(415, "media_type", "", "POST", "/v1/alerts", "", k, "Content-Type: application/json", "Content-Encoding: gzip")
	d.problem(400, "bad_request", "colour", "GET", "/v1/alerts?colour=red", "", k)
	d.problem(400, "bad_request", "limit", "GET", "/v1/alerts?limit=0", "", k)
	d.problem(400, "bad_request", "limit", "GET", "/v1/alerts?limit=1&limit=1", "", k)
	d.problem(400, "bad_request", "after", "GET", "/v1/alerts?after=x", "", k)
	d.problem(400, "bad_request", "state", "GET", "/v1/alerts?state=deleted", "", k)
}

func TestBulk(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, id := d.tenant("acme")
	item := strings.TrimSuffix(simple, "}")
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `%s,"name":"a %d","labels":["l%d"]},`, item, i, i%2)
		}
		return `{"alerts":[` + strings.TrimSuffix(b.String(), ",") + `]}`
	}
	var got struct {
		Results []struct {
			Status int
			Alert  *alert
			Error  *struct{ Code, Param string }
		}
	}
	body := many(1000)
	d.want(200, &got, "POST", "/v1/alerts", body, k, "Idempotency-Key: bulk")
	if len(got.Results) != 1000 {
		t.Fatal(len(got.Results))
	}
	for i, r := range got.Results {
		if r.Status != 201 || r.Alert.Name != fmt.Sprint("a ", i) {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	first := got.Results[0].Alert.ID
	d.want(200, &got, "POST", "/v1/alerts", body, k, "Idempotency-Key: bulk")
	if got.Results[0].Alert.ID != first {
		t.Error("made twice")
	}
	d.problem(422, "invalid", "alerts", "POST", "/v1/alerts", many(1001), k)
	d.problem(422, "invalid", "alerts", "POST", "/v1/alerts", `{"alerts":[]}`, k)

	// What is wrong with one is none of the others' business.
	d.want(200, &got, "POST", "/v1/alerts", `{"alerts":[`+simple+`,{"sym":"NO-SUCH","rule":{"series":"last","op":"crosses_above","limit":"1"}},7,`+simple+`]}`, k)
	r := got.Results
	if r[0].Status != 201 || r[1].Status != 404 || r[1].Error.Param != "alerts[1].sym" || r[2].Status != 422 || r[2].Error.Param != "alerts[2]" || r[3].Status != 201 {
		t.Errorf("%+v", r)
	}

	// Pages hold each alert once.
	seen := map[string]bool{}
	for next := ""; ; {
		var p struct {
			Items []alert
			Next  *string
		}
		d.want(200, &p, "GET", "/v1/alerts?label=l1&limit=150"+next, "", k)
		for _, al := range p.Items {
			if seen[al.ID] || al.Labels[0] != "l1" {
				t.Fatalf("%s again, or %v", al.ID, al.Labels)
			}
			seen[al.ID] = true
		}
		if p.Next == nil {
			break
		}
		next = "&after=" + *p.Next
	}
	if len(seen) != 500 {
		t.Errorf("%d alerts on the pages", len(seen))
	}

	// The quota has room for some.
	d.want(200, nil, "PATCH", "/v1/tenants/"+id, `{"quota":{"alerts":1004}}`, asAdmin)
	d.want(200, &got, "POST", "/v1/alerts", many(4), k)
	r = got.Results
	if r[0].Status != 201 || r[1].Status != 201 || r[2].Status != 429 || r[2].Error.Code != "quota" || r[3].Status != 429 {
		t.Errorf("%+v", r)
	}
	d.problem(429, "quota", "", "POST", "/v1/alerts", simple, k)
	d.want(204, nil, "DELETE", "/v1/alerts/"+first, "", k)
	d.want(201, nil, "POST", "/v1/alerts", simple, k)
}
