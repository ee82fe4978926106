package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/internal/openapitest"
	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

func TestEndpoints(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	var e endpoint
	r := d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.com/hook?x=1","description":"d","event_types":["alert.fired"],"format":"json","retry":"standard",
		"max_in_flight":3,"rate":2.5,"timeout":"5s","ordering":"alert","batch":10,"headers":[{"name":"X-Team","value":"blue"}],"signatures":["stripe","slack"],"secrets":["v1","v1a"]}`, k)
	if e.State != "enabled" || e.Timeout != "5s" || e.Rate != 2.5 || len(e.Secrets) != 2 || strings.Contains(string(r.Body()), "blue") {
		t.Errorf("%s", r.Body())
	}
	path := "/v1/endpoints/" + e.ID
	hmac, public := e.Secrets[0], e.Secrets[1]
	if _, err := signature.ParseSecret(hmac.Text); err != nil {
		t.Error(err)
	}
	private, err := signature.ParsePrivateKey(public.Text)
	if err != nil || private.Public().Text() != public.Public {
		t.Errorf("%+v: %v", public, err)
	}

	// Secrets are shown once.
	for _, target := range []string{path, "/v1/endpoints"} {
		if r := d.want(200, nil, "GET", target, "", k); strings.Contains(string(r.Body()), "whsec_") || strings.Contains(string(r.Body()), "whsk_") || strings.Contains(string(r.Body()), "blue") {
			t.Errorf("%s: %s", target, r.Body())
		}
	}
	d.want(200, &e, "POST", path+"/rotate-secret", `{"overlap":"1h"}`, k)
	if s := e.Secrets; len(s) != 3 || s[0].Text == "" || s[0].Expires != nil || s[1].Kind != "v1a" && s[2].Kind != "v1a" {
		t.Errorf("%+v", s)
	}
	for _, s := range e.Secrets[1:] {
		if s.Text != "" || (s.Kind == "v1") != (s.Expires != nil) {
			t.Errorf("%+v", s)
		}
	}
	for range 4 {
		d.want(200, &e, "POST", path+"/rotate-secret", "", k)
	}
	if len(e.Secrets) != maxSecrets+1 {
		t.Errorf("%d secrets", len(e.Secrets))
	}
	d.want(200, &e, "POST", path+"/rotate-secret", `{"overlap":"0s"}`, k)
	if n := slices.IndexFunc(e.Secrets, func(s secret) bool { return s.Kind == "v1" && s.Expires != nil }); n >= 0 {
		t.Errorf("an old secret is still there: %+v", e.Secrets)
	}

	r = d.want(200, &e, "PATCH", path, `{"description":"other","event_types":[]}`, k)
	if e.Description != "other" || len(e.EventTypes) != 0 || e.Batch != 10 || len(e.Headers) != 1 {
		t.Errorf("%+v", e)
	}
	d.problem(412, "precondition", "If-Match", "PATCH", path, `{"batch":1}`, k, `If-Match: "1"`)
	d.want(200, &e, "PATCH", path, `{"batch":1}`, k, "If-Match: "+string(r.Header.Peek("ETag")))
	d.want(200, &e, "POST", path+"/disable", "{}", k)
	if e.State != "disabled" || e.DisabledBy != "user" {
		t.Errorf("%+v", e)
	}
	d.problem(422, "invalid", "held", "POST", path+"/enable", "", k)
	d.problem(422, "invalid", "held", "POST", path+"/enable", `{"held":"burn"}`, k)
	d.want(200, &e, "POST", path+"/enable", `{"held":"drop"}`, k)
	if e.State != "enabled" || e.DisabledBy != "" {
		t.Errorf("%+v", e)
	}
	for i := range 4 {
		d.want(201, nil, "POST", "/v1/endpoints", fmt.Sprintf(`{"url":"https://example.com/%d"}`, i), k)
	}
	d.problem(429, "quota", "", "POST", "/v1/endpoints", `{"url":"https://example.com/5"}`, k)
	d.want(204, nil, "DELETE", path, "", k)
	d.problem(404, "not_found", "", "GET", path, "", k)
	d.want(201, nil, "POST", "/v1/endpoints", `{"url":"https://example.com/5"}`, k)
}

func TestBadEndpoints(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	f := func(param, body string) string {
		t.Helper()
		return d.problem(422, "invalid", param, "POST", "/v1/endpoints", body, k)
	}
	f("url", `{}`)
	for _, url := range []string{
		"", "x", "ftp://example.com", "https://", "https://user:pw@example.com/", "https://example.com/#x", "https://exämple.com/", "https://example.com/a b",
		"http://10.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "https://example.com:22/", "https://" + strings.Repeat("x", 2048),
	} {
		f("url", fmt.Sprintf(`{"url":%q}`, url))
	}
	const u = `{"url":"https://example.com/",`
	f("timeout", u+`"timeout":"16s"}`)
	f("timeout", u+`"timeout":15}`)
	f("max_in_flight", u+`"max_in_flight":0}`)
	f("max_in_flight", u+`"max_in_flight":1.5}`)
	f("max_in_flight", u+`"max_in_flight":"1"}`)
	f("rate", u+`"rate":-1}`)
	f("batch", u+`"batch":2,"format":"slack"}`)
	f("format", u+`"format":"xml"}`)
	f("event_types[0]", u+`"event_types":["alert.burned"]}`)
	f("signatures[0]", u+`"signatures":["md5"]}`)
	f("secrets", u+`"secrets":[]}`)
	f("headers", u+`"headers":[{"name":"Host","value":"x"}]}`)
	f("headers[0].value", u+`"headers":[{"name":"X-A","value":"x\r\nX-B: y"}]}`)
	f("headers[0].colour", u+`"headers":[{"name":"X-A","value":"x","colour":1}]}`)
	f("headers[0].value", u+`"headers":[{"name":"X-A"}]}`)
	f("tls.key", u+`"tls":{"cert":"x"}}`)
	f("tls.cert", u+`"tls":{"cert":"x","key":"y"}}`)
	f("tls.ca", u+`"tls":{"ca":"x"}}`)
}

// TestEndpointAnswers sends real requests to a receiver.
func TestEndpointAnswers(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	good, bad := receiver(t, 200), receiver(t, 500)
	var e endpoint
	var got testResult
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+good.URL+`"}`, k)
	d.want(200, &got, "POST", "/v1/endpoints/"+e.ID+"/test", "", k)
	if !got.OK || got.Status != 200 || got.Error != "" || !isEventID(got.Event) || strings.ContainsFunc(got.Response, unprintable) {
		t.Errorf("%+v", got)
	}
	for _, format := range []string{"slack", "discord", "cloudevents"} {
		d.want(200, &e, "PATCH", "/v1/endpoints/"+e.ID, `{"format":"`+format+`"}`, k)
		if d.want(200, &got, "POST", "/v1/endpoints/"+e.ID+"/test", "", k); !got.OK {
			t.Errorf("%s: %+v", format, got)
		}
	}
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+bad.URL+`"}`, k)
	d.want(200, &got, "POST", "/v1/endpoints/"+e.ID+"/test", "{}", k)
	if got.OK || got.Status != 500 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"http://127.0.0.1:9999/"}`, k)
	d.want(200, &got, "POST", "/v1/endpoints/"+e.ID+"/test", "{}", k)
	if got.OK || got.Status != 0 || got.Error == "" {
		t.Errorf("%+v", got)
	}
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+good.URL+`","verification":"challenge"}`, k)
	path := "/v1/endpoints/" + e.ID
	if e.State != "unverified" {
		t.Error(e.State)
	}
	d.problem(409, "conflict", "", "POST", path+"/enable", `{"held":"release"}`, k)
	d.problem(409, "unreachable", "", "POST", path+"/verify", "", k) // it does not answer the challenge
	d.want(200, &e, "PATCH", path, `{"verification":"none"}`, k)
	d.want(200, &e, "POST", path+"/enable", `{"held":"release"}`, k)
	d.want(200, &e, "PATCH", path, `{"verification":"cloudevents"}`, k)
	if e.State != "unverified" {
		t.Error(e.State)
	}
}

// fire makes alert n fire so often, as its owner would.
func (d *desk) fire(l store.Lease, al *alert, offset int64, seqs ...uint32) {
	d.t.Helper()
	num, err := store.ParseID(store.AlertPrefix, al.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	found, err := d.st.AlertsByNum(d.t.Context(), []int64{num})
	if err != nil {
		d.t.Fatal(err)
	}
	c := store.Commit{Lease: l, LogID: "log", Offset: offset, Clock: market.FromTime(time.Now())}
	for _, seq := range seqs {
		id := store.AlertEventID(num, seq)
		c.Fires = append(c.Fires, store.Event{
			ID: id, Type: store.TypeAlertFired, Tenant: found[num].Tenant, Alert: num, ArmSeq: seq, Sym: al.Sym,
			Body: fmt.Appendf(nil, `{"id":%q,"type":"alert.fired","timestamp":"2026-11-26T00:00:00Z","data":{"object":{"n":%d}}}`, id, seq),
		})
	}
	if err := d.st.Commit(d.t.Context(), &c); err != nil || len(c.Dropped) > 0 {
		d.t.Fatal(err, c.Dropped)
	}
}

func TestEventsAndDeliveries(t *testing.T) {
	d := newDesk(t, nil)
	lease := d.own()()
	k, _ := d.tenant("acme")
	var e endpoint
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.com/"}`, k)
	d.want(201, nil, "POST", "/v1/endpoints", `{"url":"https://example.org/","event_types":["endpoint.failing"]}`, k)
	var al alert
	d.want(201, &al, "POST", "/v1/alerts", `{"sym":"BTC-USDT","rule":{"series":"last","op":"crosses_above","limit":"1","mode":"recurring"}}`, k)
	var p eventPage
	d.want(200, &p, "GET", "/v1/events", "", k)
	if len(p.Items) != 0 || p.Next != 0 || p.More {
		t.Errorf("%+v", p)
	}
	d.fire(lease, &al, 1000, 1, 2, 3)
	d.want(200, &p, "GET", "/v1/events?limit=2", "", k)
	if len(p.Items) != 2 || !p.More || p.Next != 2 || p.Items[1].Seq != 2 || p.Items[0].Alert != al.ID || string(p.Items[0].Body) == "" {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", fmt.Sprintf("/v1/events?after=%d", p.Next), "", k)
	if len(p.Items) != 1 || p.More || p.Next != 3 {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", "/v1/events?after=3", "", k)
	if len(p.Items) != 0 || p.More || p.Next != 3 {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", "/v1/events?type=endpoint.failing", "", k)
	if len(p.Items) != 0 {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", "/v1/events?alert="+al.ID, "", k)
	if len(p.Items) != 3 {
		t.Errorf("%+v", p)
	}
	id := p.Items[2].ID
	var ev event
	d.want(200, &ev, "GET", "/v1/events/"+id, "", k)
	d.problem(404, "not_found", "", "GET", "/v1/events/"+id+"9", "", k)

	var list listed[delivery]
	d.want(200, &list, "GET", "/v1/deliveries?limit=2", "", k)
	if len(list.Items) != 2 || list.Next == nil || list.Items[0].Event != id || list.Items[0].Endpoint != e.ID || list.Items[0].State != "queued" {
		t.Errorf("%+v", list)
	}
	d.want(200, &list, "GET", "/v1/deliveries?after="+*list.Next, "", k)
	if len(list.Items) != 1 || list.Next != nil {
		t.Errorf("%+v", list)
	}
	d.want(200, &list, "GET", "/v1/deliveries?state=queued&endpoint="+e.ID+"&event="+id, "", k)
	if len(list.Items) != 1 {
		t.Fatalf("%+v", list)
	}
	path := "/v1/deliveries/" + list.Items[0].ID
	var dl delivery
	d.want(200, &dl, "POST", path+"/cancel", "", k)
	if dl.State != "cancelled" || dl.NextAt != nil || dl.Finished == nil || dl.Event != id {
		t.Errorf("%+v", dl)
	}
	d.problem(409, "conflict", "", "POST", path+"/cancel", "", k)
	d.want(202, &dl, "POST", path+"/resend", "", k)
	if dl.State != "queued" {
		t.Errorf("%+v", dl)
	}
	d.want(200, nil, "POST", path+"/cancel", "", k)
	d.want(200, nil, "GET", path+"/attempts", "", k)
	d.want(200, nil, "GET", path, "", k)

	var r replay
	d.problem(422, "invalid", "from", "POST", "/v1/replays", `{}`, k)
	d.problem(422, "invalid", "to", "POST", "/v1/replays", `{"from":"2026-01-02T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, k)
	d.problem(422, "invalid", "states[0]", "POST", "/v1/replays", `{"from":"2026-01-02T00:00:00Z","states":["queued"]}`, k)
	d.problem(422, "invalid", "endpoint", "POST", "/v1/replays", `{"from":"2026-01-02T00:00:00Z","endpoint":"`+al.ID+`"}`, k)
	d.want(202, &r, "POST", "/v1/replays", `{"from":"2026-01-01T00:00:00Z","states":["cancelled"],"type":"alert.fired","endpoint":"`+e.ID+`"}`, k)
	if more, err := d.st.ReplayStep(t.Context(), 100); err != nil || !more {
		t.Error(more, err)
	}
	d.want(200, &r, "GET", "/v1/replays/"+r.ID, "", k)
	if r.State != "done" || r.Matched != 1 {
		t.Errorf("%+v", r)
	}
	d.problem(409, "conflict", "", "POST", "/v1/replays/"+r.ID+"/cancel", "", k)
	d.want(202, &r, "POST", "/v1/replays", `{"from":"2026-01-01T00:00:00Z"}`, k)
	d.want(200, &r, "POST", "/v1/replays/"+r.ID+"/cancel", "", k)
	if r.State != "cancelled" {
		t.Errorf("%+v", r)
	}
	var replays listed[replay]
	d.want(200, &replays, "GET", "/v1/replays?limit=1", "", k)
	if len(replays.Items) != 1 || replays.Next == nil {
		t.Errorf("%+v", replays)
	}

	// What is held is told from what is not.
	d.want(200, nil, "POST", "/v1/endpoints/"+e.ID+"/disable", "", k)
	d.want(200, &list, "GET", "/v1/deliveries?state=held", "", k)
	if len(list.Items) != 3 {
		t.Errorf("%+v", list)
	}
	d.problem(409, "conflict", "", "POST", "/v1/deliveries/"+list.Items[0].ID+"/resend", "", k)
	d.want(200, nil, "POST", "/v1/endpoints/"+e.ID+"/enable", `{"held":"drop"}`, k)
	d.want(200, &list, "GET", "/v1/deliveries?state=cancelled", "", k)
	if len(list.Items) != 3 {
		t.Errorf("%+v", list)
	}

	// What is not kept any more is missed.
	for n := 1; n > 0; {
		var err error
		if n, err = d.st.Purge(t.Context(), time.Now().Add(31*24*time.Hour), 100); err != nil {
			t.Fatal(err)
		}
	}
	d.fire(lease, &al, 1001, 4)
	d.want(200, &p, "GET", "/v1/events?after=1", "", k)
	if len(p.Items) != 1 || p.Items[0].Seq != 4 || p.Missed != 2 || p.Next != 4 {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", "/v1/events?after=3", "", k)
	if p.Missed != 0 {
		t.Errorf("%+v", p)
	}
}

func TestKeys(t *testing.T) {
	d := newDesk(t, nil)
	owner, id := d.tenant("acme")
	f := func(status int, code, param, body, k string) {
		t.Helper()
		d.problem(status, code, param, "POST", "/v1/keys", body, k)
	}
	f(422, "invalid", "name", `{}`, owner)
	f(422, "invalid", "name", `{"name":""}`, owner)
	f(422, "invalid", "scopes", `{"name":"x","scopes":[]}`, owner)
	f(422, "invalid", "scopes[0]", `{"name":"x","scopes":["root"]}`, owner)
	f(422, "invalid", "expires_at", `{"name":"x","expires_at":"2020-01-01T00:00:00Z"}`, owner)
	f(422, "invalid", "expires_at", `{"name":"x","expires_at":"tomorrow"}`, owner)
	f(400, "bad_request", "Tickwire-Tenant", `{"name":"x"}`, asAdmin)
	maker := d.key(id, store.ScopeKeys, store.ScopeAlertsRead)
	f(422, "invalid", "scopes[0]", `{"name":"x","scopes":["alerts:write"]}`, maker)
	var got key
	d.want(201, &got, "POST", "/v1/keys", `{"name":"ci","scopes":["alerts:read"],"expires_at":"2040-01-01T00:00:00Z"}`, maker)
	if !strings.HasPrefix(got.Secret, got.Prefix) || len(got.Secret) != len(keyPrefix)+43 {
		t.Errorf("%+v", got)
	}
	ci := "Authorization: Bearer " + got.Secret
	d.want(200, nil, "GET", "/v1/alerts", "", ci)
	d.problem(403, "forbidden", "", "POST", "/v1/alerts", simple, ci)
	d.problem(403, "forbidden", "", "GET", "/v1/keys", "", ci)
	d.problem(403, "forbidden", "", "GET", "/v1/tenants", "", owner)
	path := "/v1/keys/" + got.ID
	d.want(200, &got, "GET", path, "", owner)
	if got.Secret != "" || got.Used == nil {
		t.Errorf("%+v", got)
	}
	var list listed[key]
	if r := d.want(200, &list, "GET", "/v1/keys", "", owner); len(list.Items) != 3 || strings.Contains(string(r.Body()), `"secret"`) {
		t.Errorf("%s", r.Body())
	}
	d.want(200, &got, "POST", path+"/revoke", "", owner)
	if got.Revoked == nil {
		t.Errorf("%+v", got)
	}
	d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", ci)
	d.want(201, &got, "POST", "/v1/keys", `{"name":"short","expires_at":"2039-01-01T00:00:00Z"}`, owner)
	short := "Authorization: Bearer " + got.Secret
	d.want(200, nil, "GET", "/v1/alerts", "", short)
	d.set(time.Date(2039, 1, 1, 0, 0, 0, 0, time.UTC))
	d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", short)
}

func TestWhoAsks(t *testing.T) {
	d := newDesk(t, nil)
	k, id := d.tenant("acme")
	_, other := d.tenant("other")
	f := func(status int, code, param, target string, headers ...string) {
		t.Helper()
		d.problem(status, code, param, "GET", target, "", headers...)
	}
	f(401, "auth_required", "", "/v1/alerts")
	f(401, "auth_required", "", "/v1/alerts", "Authorization: Basic YTpi")
	f(401, "auth_failed", "", "/v1/alerts", "Authorization: Bearer")
	f(401, "auth_failed", "", "/v1/alerts", "Authorization: Bearer tw_live_AAAA")
	f(401, "auth_failed", "", "/v1/alerts", k+"x")
	f(401, "auth_failed", "", "/v1/alerts", k, k)
	f(401, "auth_failed", "", "/v1/tenants", asAdmin+"x")
	d.want(200, nil, "GET", "/v1/alerts", "", k, "Tickwire-Tenant: "+id)
	d.want(200, nil, "GET", "/v1/alerts?tenant="+id, "", k)
	f(404, "not_found", "", "/v1/alerts", k, "Tickwire-Tenant: "+other)
	f(404, "not_found", "", "/v1/alerts?tenant="+other, k)
	f(400, "bad_request", "tenant", "/v1/alerts?tenant=x", k)
	f(400, "bad_request", "tenant", "/v1/alerts?tenant="+other, k, "Tickwire-Tenant: "+id)
	d.want(200, nil, "GET", "/v1/alerts", "", asAdmin, "Tickwire-Tenant: "+id)
	f(400, "bad_request", "Tickwire-Tenant", "/v1/alerts", asAdmin)
	f(404, "not_found", "", "/v1/alerts", asAdmin, "Tickwire-Tenant: "+store.FormatID(store.TenantPrefix, store.NewID()))
	d.problem(409, "conflict", "", "POST", "/v1/tenants", `{"name":"acme"}`, asAdmin)
	var tn tenant
	d.want(200, &tn, "PATCH", "/v1/tenants/"+id, `{"quota":{"rate":3}}`, asAdmin)
	if tn.Name != "acme" || tn.Quota.Rate != 3 {
		t.Errorf("%+v", tn)
	}
	d.want(200, nil, "GET", "/v1/tenants/"+id, "", asAdmin)
	var list listed[tenant]
	d.want(200, &list, "GET", "/v1/tenants?limit=1", "", asAdmin)
	if len(list.Items) != 1 || list.Next == nil {
		t.Errorf("%+v", list)
	}
	d.want(200, nil, "GET", "/healthz", "")
}

// TestOthers is a tenant that knows another one's ids.
func TestOthers(t *testing.T) {
	d := newDesk(t, nil)
	lease := d.own()()
	mine, _ := d.tenant("mine")
	theirs, _ := d.tenant("theirs")
	var al alert
	var e endpoint
	var k key
	var list listed[delivery]
	var r replay
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.com/"}`, theirs)
	d.want(201, &al, "POST", "/v1/alerts", simple, theirs)
	d.want(201, &k, "POST", "/v1/keys", `{"name":"x"}`, theirs)
	d.fire(lease, &al, 1000, 1)
	d.want(200, &list, "GET", "/v1/deliveries", "", theirs)
	d.want(202, &r, "POST", "/v1/replays", `{"from":"2026-01-01T00:00:00Z"}`, theirs)
	ids := map[string]string{
		"alerts": al.ID, "endpoints": e.ID, "keys": k.ID, "deliveries": list.Items[0].ID, "events": list.Items[0].Event, "replays": r.ID,
	}
	bodies := map[string]string{"enable": `{"held":"drop"}`, "PATCH": `{"name":"x"}`}
	for i := range routes {
		rt := &routes[i]
		name, _, ofID := strings.Cut(strings.TrimPrefix(rt.path, "/v1/"), "/{id}")
		if !ofID || rt.access != ofTenant {
			continue
		}
		target := strings.Replace(rt.path, ofOne, ids[name], 1)
		body := bodies[target[strings.LastIndexByte(target, '/')+1:]]
		if rt.method == patch {
			body = "{}"
		}
		d.problem(404, "not_found", "", rt.method, target, body, mine)
		d.problem(404, "not_found", "", rt.method, strings.Replace(rt.path, ofOne, "x", 1), body, mine)
	}
	d.problem(422, "invalid", "endpoints[0]", "POST", "/v1/alerts", strings.TrimSuffix(simple, "}")+`,"endpoints":["`+e.ID+`"]}`, mine)
	d.problem(422, "invalid", "endpoint", "POST", "/v1/replays", `{"from":"2026-01-01T00:00:00Z","endpoint":"`+e.ID+`"}`, mine)
	d.problem(404, "not_found", "", "GET", "/v1/deliveries?event="+list.Items[0].Event, "", mine)
	for _, target := range []string{"/v1/alerts", "/v1/endpoints", "/v1/events", "/v1/deliveries", "/v1/replays", "/v1/deliveries?endpoint=" + e.ID, "/v1/events?alert=" + al.ID} {
		var p struct{ Items []any }
		if d.want(200, &p, "GET", target, "", mine); len(p.Items) != 0 {
			t.Errorf("%s: %v", target, p.Items)
		}
	}
	d.want(200, nil, "GET", "/v1/alerts/"+al.ID, "", theirs) // it is all still there
	d.want(200, nil, "GET", "/v1/endpoints/"+e.ID, "", theirs)
}

func TestIdempotency(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, id := d.tenant("acme")
	another := d.key(id)
	other, _ := d.tenant("other")
	once := func(name string) string { return "Idempotency-Key: " + name }
	twice := func(target, body string) {
		t.Helper()
		a := d.ask("POST", target, body, k, once(target))
		b := d.ask("POST", target, body, another, once(target))
		if a.StatusCode() >= 400 || a.StatusCode() != b.StatusCode() || string(a.Body()) != string(b.Body()) || string(a.Header.Peek("Location")) != string(b.Header.Peek("Location")) ||
			string(a.Header.Peek("ETag")) != string(b.Header.Peek("ETag")) || len(a.Header.Peek("Idempotency-Replayed")) > 0 || string(b.Header.Peek("Idempotency-Replayed")) != "true" {
			t.Errorf("%s:\n%d %s\n%d %s", target, a.StatusCode(), a.Body(), b.StatusCode(), b.Body())
		}
		if body != "" {
			d.problem(422, "idempotency", idempotencyKey, "POST", target, body+" ", k, once(target))
		}
	}
	twice("/v1/alerts", simple)
	twice("/v1/endpoints", `{"url":"https://example.com/"}`)
	twice("/v1/keys", `{"name":"x"}`)
	twice("/v1/replays", `{"from":"2026-01-01T00:00:00Z"}`)
	var list listed[alert]
	d.want(200, &list, "GET", "/v1/alerts", "", k)
	var ends listed[endpoint]
	d.want(200, &ends, "GET", "/v1/endpoints", "", k)
	if len(list.Items) != 1 || len(ends.Items) != 1 {
		t.Fatalf("%d alerts, %d endpoints", len(list.Items), len(ends.Items))
	}
	twice("/v1/endpoints/"+ends.Items[0].ID+"/rotate-secret", `{}`)
	twice("/v1/endpoints/"+ends.Items[0].ID+"/disable", "")
	twice("/v1/alerts/"+list.Items[0].ID+"/pause", "")

	// The same name is another tenant's own, and what went wrong is not remembered.
	d.want(201, nil, "POST", "/v1/alerts", simple, other, once("/v1/alerts"))
	d.problem(404, "unknown_symbol", "sym", "POST", "/v1/alerts", strings.Replace(simple, "BTC", "XYZ", 1), k, once("again"))
	d.want(201, nil, "POST", "/v1/alerts", simple, k, once("again"))
	d.problem(400, "bad_request", idempotencyKey, "POST", "/v1/alerts", simple, k, once(strings.Repeat("x", 256)))
	d.problem(400, "bad_request", idempotencyKey, "POST", "/v1/alerts", simple, k, once("a b"))
	a := d.ask("POST", "/v1/tenants", `{"name":"twice"}`, asAdmin, once("t"))
	b := d.ask("POST", "/v1/tenants", `{"name":"twice"}`, asAdmin, once("t"))
	if a.StatusCode() != 201 || string(a.Body()) != string(b.Body()) {
		t.Errorf("%s %s", a.Body(), b.Body())
	}
}

func TestWithoutKey(t *testing.T) {
	d := newDesk(t, func(c *APIConfig) { c.Auth = AuthNone })
	d.own()
	d.want(201, nil, "POST", "/v1/alerts", simple)
	d.want(200, nil, "GET", "/v1/keys", "")
	d.problem(401, "auth_required", "", "GET", "/v1/tenants", "")
	d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", "Authorization: Bearer nonsense")
	d.problem(401, "auth_required", "", "GET", "/v1/alerts", "", "Authorization: Basic eDp5")
	d.problem(403, "forbidden", "", "GET", "/v1/alerts", "", "Origin: https://evil.example")
	d.problem(403, "forbidden", "", "GET", "/v1/alerts", "", "Host: evil.example")
	for _, host := range []string{"localhost:8082", "LOCALHOST", "[::1]:8082", "[::1]", "10.0.0.1"} {
		d.want(200, nil, "GET", "/v1/alerts", "", "Host: "+host)
	}
}

func TestRates(t *testing.T) {
	d := newDesk(t, func(c *APIConfig) { c.Rate, c.Burst = 1, 3 })
	now := time.Now()
	d.set(now)
	k, id := d.tenant("acme")
	other, _ := d.tenant("other")
	for i := range 3 {
		r := d.want(200, nil, "GET", "/v1/alerts", "", k)
		if left := string(r.Header.Peek("RateLimit-Remaining")); left != fmt.Sprint(2-i) || string(r.Header.Peek("RateLimit-Limit")) != "3" {
			t.Error(left)
		}
	}
	d.problem(429, "rate", "", "GET", "/v1/alerts", "", k)
	d.want(200, nil, "GET", "/v1/alerts", "", other)
	d.want(200, nil, "GET", "/v1/alerts", "", asAdmin, "Tickwire-Tenant: "+id)
	d.set(now.Add(time.Second))
	d.want(200, nil, "GET", "/v1/alerts", "", k)
	d.problem(429, "rate", "", "GET", "/v1/alerts", "", k)
	d.want(200, nil, "PATCH", "/v1/tenants/"+id, `{"quota":{"rate":10}}`, asAdmin)
	d.set(now.Add(10 * time.Second))
	for range 30 {
		d.want(200, nil, "GET", "/v1/alerts", "", k)
	}
	// Who guesses keys is slowed down, and then good keys from there too.
	for range 3 {
		d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", "Authorization: Bearer guess")
	}
	d.problem(429, "rate", "", "GET", "/v1/alerts", "", "Authorization: Bearer guess")
}

func TestMethods(t *testing.T) {
	d := newDesk(t, nil)
	f := func(method, target string, status int, allow string) {
		t.Helper()
		r := d.ask(method, target, "")
		if r.StatusCode() != status || string(r.Header.Peek("Allow")) != allow {
			t.Errorf("%s %s: %d, Allow: %s", method, target, r.StatusCode(), r.Header.Peek("Allow"))
		}
	}
	f("OPTIONS", "/v1/alerts", 204, "GET, HEAD, OPTIONS, POST")
	f("PUT", "/v1/alerts", 405, "GET, HEAD, OPTIONS, POST")
	f("DELETE", "/v1/alerts", 405, "GET, HEAD, OPTIONS, POST")
	f("POST", "/v1/alerts/x", 405, "DELETE, GET, HEAD, OPTIONS, PATCH")
	f("GET", "/v1/alerts/x/pause", 405, "OPTIONS, POST")
	f("HEAD", "/v1/alerts", 401, "")
	f("GET", "/v1/alerts/", 404, "")
	f("GET", "/v1/alerts/x/y", 404, "")
	f("GET", "/v1/alerts/x/pause/z", 404, "")
	f("GET", "/v2/alerts", 404, "")
	f("GET", "/", 404, "")
	f("GET", "/openapi.yaml", 200, "")
}

// TestListener speaks HTTP.
func TestListener(t *testing.T) {
	d := newDesk(t, func(c *APIConfig) { c.Auth, c.MaxConns = AuthNone, 8 })
	ln := fasthttputil.NewInmemoryListener()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.api.serve(ctx, ln) }()
	talk := func(conn net.Conn, text string) *http.Response {
		t.Helper()
		method, _, _ := strings.Cut(text, " ")
		go func() { _, _ = conn.Write([]byte(text)) }() // the server may hang up before it has read everything
		r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	dial := func() net.Conn {
		t.Helper()
		conn, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	a := dial()
	r := talk(a, "HEAD /v1/alerts HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if r.StatusCode != 200 || r.ContentLength <= 0 || r.Header.Get("X-Content-Type-Options") != "nosniff" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", r)
	}
	problem := func(r *http.Response, status int, code string) {
		t.Helper()
		var p struct{ Code string }
		if err := json.NewDecoder(r.Body).Decode(&p); err != nil || r.StatusCode != status || p.Code != code || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %+v (%v), want %d %s", r.StatusCode, p, err, status, code)
		}
	}
	b := dial()
	problem(talk(b, "POST /v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n{"), 413, "too_large")
	_ = b.Close()
	b = dial()
	problem(talk(b, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n"), 431, "too_large")
	_ = b.Close()
	b = dial()
	problem(talk(b, "nonsense\r\n\r\n"), 400, "bad_request")
	_ = b.Close()
	b = dial()
	full := strings.Repeat(" ", maxBody-2) + "{}"
	problem(talk(b, fmt.Sprintf("POST /v1/alerts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(full), full)), 422, "invalid")
	for open := 9; open > 2; open, _, _ = d.api.crowd.Sizes() { // those that have been closed leave
		time.Sleep(time.Millisecond)
	}
	var all []net.Conn
	for range 6 { // with a and b eight are here
		all = append(all, dial())
		talk(all[len(all)-1], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	one := dial()
	if _, err := one.Read(make([]byte, 1)); err == nil {
		t.Error("one connection too many is served")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, conn := range append(all, a, b, one) {
		_ = conn.Close()
	}
}

// TestAPIDocument compares the routes and their parameters with the document.
func TestAPIDocument(t *testing.T) {
	doc := openapitest.Read(t, openapiYAML)
	doc.Follow(t, doc.Root)
	known := map[string]bool{}
	for i := range routes {
		r := &routes[i]
		known[r.method+" "+r.path] = true
		if r.path == openapiPath {
			continue
		}
		op, _, ok := doc.At("#/paths/" + strings.ReplaceAll(r.path, "/", "~1") + "/" + strings.ToLower(r.method))
		if !ok {
			t.Errorf("%s %s is not in the document", r.method, r.path)
			continue
		}
		params := slices.Clone(r.params)
		if r.access == ofTenant {
			params = append(params, rest.Param{Name: "tenant"})
		}
		var has []string
		for _, p := range doc.Params(op) {
			name := p["name"].(string)
			if p["in"] == "query" {
				has = append(has, name)
				if !slices.ContainsFunc(params, func(q rest.Param) bool { return q.Name == name }) {
					t.Errorf("%s %s: the document has a parameter %s", r.method, r.path, name)
				}
			}
		}
		for _, p := range params {
			if !slices.Contains(has, p.Name) {
				t.Errorf("%s %s: the document has no parameter %s", r.method, r.path, p.Name)
			}
		}
		if scope := fmt.Sprint(op.(map[string]any)["description"]); r.scope != "" && !strings.Contains(scope, "`"+r.scope+"`") {
			t.Errorf("%s %s: the document does not tell of the scope %s", r.method, r.path, r.scope)
		}
	}
	for path, methods := range doc.Paths {
		for m := range methods.(map[string]any) {
			if !known[strings.ToUpper(m)+" "+path] {
				t.Errorf("the document has %s %s", m, path)
			}
		}
	}
	for name, want := range map[string][]string{"Scope": allScopes, "EventType": eventTypes} {
		node, _, _ := doc.At("#/components/schemas/" + name + "/enum")
		var got []string
		for _, v := range node.([]any) {
			got = append(got, v.(string))
		}
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func FuzzObject(f *testing.F) {
	for _, s := range []string{simple, `{"a":{"b":[1,"x",null]}}`, `{"a":1,"a":2}`, "{", "[]", "\xff", `{"name":"\ud800"}`, `{"n":1e400}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		o, wrong := parseObject(text)
		if wrong != nil {
			if wrong.Status < 400 || wrong.Detail == "" || strings.ContainsFunc(wrong.Detail+wrong.Param, unprintable) {
				t.Fatalf("%+v", wrong)
			}
			return
		}
		_ = o.text("name", 10)
		_ = o.number("n", 0, 10, 1)
		_ = o.texts("list", 3, 3)
		_ = o.when("at")
		_ = o.span("span", 0, time.Hour, 0)
		if s, ok := o.member("a"); ok {
			_ = s.integer("b", 0, 1, 0)
			_ = s.end()
		}
		if wrong := o.end(); wrong != nil && strings.ContainsFunc(wrong.Detail+wrong.Param, unprintable) {
			t.Fatalf("%+v", wrong)
		}
	})
}

// TestRepeatedAnyway is a request whose answer was lost, made again when it could not be made any more.
func TestRepeatedAnyway(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, _ := d.tenant("acme")
	a := d.want(201, nil, "POST", "/v1/alerts", simple, k, "Idempotency-Key: x")
	err := d.st.PutInstruments(t.Context(), []store.Instrument{{Sym: "BTC-USDT", Inst: 7, PriceScale: 2, SizeScale: 5, State: "delisted"}})
	if err != nil {
		t.Fatal(err)
	}
	b := d.want(201, nil, "POST", "/v1/alerts", simple, k, "Idempotency-Key: x")
	if string(a.Body()) != string(b.Body()) {
		t.Errorf("%s", b.Body())
	}
	d.problem(409, "delisted", "sym", "POST", "/v1/alerts", simple, k, "Idempotency-Key: y")
	var al alert
	if err := json.Unmarshal(a.Body(), &al); err != nil {
		t.Fatal(err)
	}
	d.problem(409, "delisted", "rule", "PATCH", "/v1/alerts/"+al.ID, `{"rule":{"series":"last","op":"crosses_above","limit":"1"}}`, k)

	// Nothing of a request could be made: that is its answer.
	bad := `{"alerts":[` + simple + `,1]}`
	var got bulk
	for _, header := range []string{"Idempotency-Key: z", "Idempotency-Key: z", "X: y"} {
		if d.want(200, &got, "POST", "/v1/alerts", bad, k, header); len(got.Results) != 2 || got.Results[0].Status != 409 || got.Results[1].Status != 422 {
			t.Errorf("%+v", got)
		}
	}
}

// TestSlowEndpoints are asked few at a time.
func TestSlowEndpoints(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	other, _ := d.tenant("other")
	arrived, free := make(chan struct{}, 10), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-free }))
	defer slow.Close()
	var e endpoint
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+slow.URL+`"}`, k)
	var work sync.WaitGroup
	for range maxCallsPerTenant {
		work.Go(func() {
			if r := d.ask("POST", "/v1/endpoints/"+e.ID+"/test", "", k); r.StatusCode() != 200 {
				t.Errorf("%s", r.Body())
			}
		})
	}
	for range maxCallsPerTenant {
		<-arrived
	}
	d.problem(429, "rate", "", "POST", "/v1/endpoints/"+e.ID+"/test", "", k)
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+receiver(t, 200).URL+`"}`, other)
	d.want(200, nil, "POST", "/v1/endpoints/"+e.ID+"/test", "", other)
	close(free)
	work.Wait()
	if len(d.api.calls) != 0 || d.api.allCalls != 0 {
		t.Error("calls that have ended are counted")
	}
}

// TestTLS is the API with a certificate, beside a client that says nothing.
func TestTLS(t *testing.T) {
	d := newDesk(t, nil)
	certFile, keyFile, pool := testkit.Certificate(t)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	d.api.deps.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.api.serve(ctx, ln) }()
	silent, err := net.Dial("tcp", ln.Addr().String()) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}}}
	resp, err := client.Get("https://" + ln.Addr().String() + "/healthz") //nolint:noctx // a test
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	_ = silent.Close()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestGuesses are counted for the client that a proxy names.
func TestGuesses(t *testing.T) {
	d := newDesk(t, func(c *APIConfig) { c.Rate, c.Burst, c.Proxies = 1, 2, []string{"192.0.2.0/24"} })
	k, _ := d.tenant("acme")
	d.set(time.Now())
	for range 2 {
		d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", "Authorization: Bearer guess", "X-Forwarded-For: 203.0.113.1")
	}
	d.problem(429, "rate", "", "GET", "/v1/alerts", "", "Authorization: Bearer guess", "X-Forwarded-For: 203.0.113.1")
	d.want(200, nil, "GET", "/v1/alerts", "", k, "X-Forwarded-For: 203.0.113.2")
	// A place that is many people's, such as a proxy that names nobody, keeps none of them out.
	for range 5 {
		d.problem(401, "auth_failed", "", "GET", "/v1/alerts", "", "Authorization: Bearer guess")
	}
	d.want(200, nil, "GET", "/v1/alerts", "", k)
}

// Where endpoints must be verified, one without a verification is given one, or refused.
func TestMustVerify(t *testing.T) {
	d := newDesk(t, func(c *APIConfig) { c.MustVerify = true })
	k, _ := d.tenant("t")
	var e struct{ ID, State, Verification string }
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.org/hook"}`, k)
	if e.State != "unverified" || e.Verification != "challenge" {
		t.Errorf("a new endpoint: %+v", e)
	}
	d.problem(422, "invalid", "verification", "POST", "/v1/endpoints", `{"url":"https://example.org/hook","verification":"none"}`, k)
	d.problem(422, "invalid", "verification", "PATCH", "/v1/endpoints/"+e.ID, `{"verification":"none"}`, k)
	d.want(200, &e, "PATCH", "/v1/endpoints/"+e.ID, `{"description":"mine"}`, k)
}
