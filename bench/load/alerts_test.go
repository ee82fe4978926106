package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/all"
	"github.com/tickwire/tickwire/services/webhook"
)

func withAlerts(cfg *all.Config) {
	cfg.Webhook.Addr, cfg.Webhook.API.Rate = "127.0.0.1:0", 0
}

func smallAlerts(d deployment.Config) Alerts {
	v := DefaultAlerts()
	v.Deployment, v.Repeat, v.Warmup, v.Duration, v.Rate, v.Instruments, v.Each, v.Endpoints = d, 1, 100*time.Millisecond, 700*time.Millisecond, 100, 5, 2, 3
	return v
}

func smallStorm(d deployment.Config) Storm {
	v := DefaultStorm()
	v.Deployment, v.Repeat, v.Warmup, v.Duration, v.Every, v.Alerts, v.Endpoints = d, 1, 400*time.Millisecond, 800*time.Millisecond, 400*time.Millisecond, 30, 3
	return v
}

// left is how many things there are behind a path of the API.
func left(t *testing.T, d deployment.Config, path string) int {
	t.Helper()
	var page struct{ Items []json.RawMessage }
	if err := newDesk(&deployment.Deployment{Config: d}).call(t.Context(), http.MethodGet, path, nil, &page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}

// TestAlerts runs both loads of alerts, twice each, against servers that go on: nothing is left behind, and nothing of an
// earlier run is mistaken for a later one's.
func TestAlerts(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	d := running(t, withAlerts)
	v := smallAlerts(d)
	v.Repeat = 2
	r, err := RunAlerts(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	has(t, r, 2, "sent/s", "offered/s", "delivered/s", "p50", "p99.99", "publisher_lag")
	if offered := r.Rows[0].Measure("offered/s").Value(); offered < 70 || offered > 130 {
		t.Errorf("%.0f fires a second, of 100", offered)
	}

	storm := smallStorm(d)
	storm.Repeat = 2
	if r, err = RunStorm(t.Context(), storm, recorder()); err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	has(t, r, 2, "delivered/s", "p50", "max", "recovery", "unfairness")

	storm.Repeat, storm.Bad = 1, 2
	if r, err = RunStorm(t.Context(), storm, recorder()); err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	if notes := strings.Join(r.Rows[0].Notes, "\n"); !strings.Contains(notes, "not well got") || strings.Contains(notes, "got 0 requests") {
		t.Errorf("notes: %s", notes)
	}
	if max := r.Rows[0].Measure("max").Value(); max > 1900 {
		t.Errorf("an endpoint that is well waited %.0f ms for one that answers after 2,000", max)
	}
	for _, path := range []string{"/v1/alerts", "/v1/endpoints"} {
		if n := left(t, d, path); n > 0 {
			t.Errorf("%s: %d are left", path, n)
		}
	}
}

// TestAlertsNeedKey: a deployment that asks for a key gets --token, and one that refuses our receiver says which flags matter.
func TestAlertsNeedKey(t *testing.T) {
	t.Parallel() // it sleeps most of the time
	admin := strings.Repeat("a", 32)
	d := running(t, func(cfg *all.Config) {
		withAlerts(cfg)
		cfg.Webhook.API.Auth, cfg.Webhook.AdminToken = webhook.AuthRequired, admin
		cfg.Webhook.Deliver.AllowNets = []string{"127.0.0.2/32"}
	})
	f := func(v Alerts, want ...string) {
		t.Helper()
		_, err := RunAlerts(t.Context(), v, recorder())
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%v, want something about %s", err, w)
			}
		}
	}
	v := smallAlerts(d)
	f(v, "401", "--token")
	v.Deployment.Token = key(t, d, admin)
	f(v, "--webhook-allow-nets", "--webhook-allow-ports", "--receive-url")
	if n := left(t, v.Deployment, "/v1/endpoints"); n > 0 {
		t.Errorf("%d endpoints are left", n)
	}
	v.Receiver = Receiver{Listen: "127.0.0.2:0"}
	r, err := RunAlerts(t.Context(), v, recorder())
	if err != nil {
		t.Fatal(err)
	}
	faultless(t, r)
	v.Listen = "192.0.2.1:1"
	f(v, "--receive:")
}

// key makes a tenant, and a key of it.
func key(t *testing.T, d deployment.Config, admin string) string {
	t.Helper()
	post := func(path, tenant string, body, into any) {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Alerts+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+admin)
		if tenant != "" {
			req.Header.Set("Tickwire-Tenant", tenant)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 {
			t.Fatalf("%s: %s: %v %s", path, res.Status, err, text)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	var tenant struct{ ID string }
	post("/v1/tenants", "", map[string]string{"name": "bench"}, &tenant)
	var made struct{ Secret string }
	post("/v1/keys", tenant.ID, map[string]string{"name": "bench"}, &made)
	return made.Secret
}

// TestInbox: a request counts once, and only with a good signature.
func TestInbox(t *testing.T) {
	m := newMeter(false)
	in, err := (&Receiver{Listen: "127.0.0.1:0"}).receive(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	secret, err := signature.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	in.open("/1/0", &signature.Verifier{Keys: []signature.Checker{secret}})
	now := time.Now()
	m.open(now.Add(-time.Minute), now.Add(time.Minute))
	send := func(path, id, body string, tamper string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, in.url+path, strings.NewReader(body+tamper))
		if err != nil {
			t.Fatal(err)
		}
		stamp := time.Now()
		req.Header.Set(signature.HeaderID, id)
		req.Header.Set(signature.HeaderTimestamp, fmt.Sprint(stamp.Unix()))
		signed, err := signature.Sign(signature.Message{ID: id, At: stamp, Body: []byte(body)}, secret)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(signature.HeaderSignature, signed)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	fired := fmt.Sprintf(`{"id":"evt_1","type":"alert.fired","data":{"object":{"seq":1,"ts":%d}}}`, now.Add(-50*time.Millisecond).UnixMicro())
	send("/1/0", "evt_a_1", fired, "")
	send("/1/0", "evt_a_1", fired, "")
	send("/1/0", "evt_a_2", fired, " ")
	send("/1/0", "evt_3", `{"type":"test"}`, "")
	if code := send("/0/0", "evt_a_4", fired, ""); code != http.StatusGone {
		t.Errorf("a path of an earlier run: %d", code)
	}
	if got := in.now(); got != (counts{arrived: 1, again: 1, unverified: 1}) {
		t.Errorf("%+v", got)
	}
	if n := in.gaps(); n != 0 {
		t.Errorf("%d gaps, of an alert's first fire", n)
	}
	send("/1/0", "evt_a_4", fired, "")
	if n := in.gaps(); n != 2 {
		t.Errorf("%d gaps between an alert's first fire and its fourth", n)
	}
	m.collect()
	if p := m.total.latency.Max(); m.total.messages != 2 || p < 49_000 || p > 5_000_000 {
		t.Errorf("%d measured, at most %d µs", m.total.messages, p)
	}
}

// TestDeskIsPatient: what is refused for a moment is asked for again, and the rest is not.
func TestDeskIsPatient(t *testing.T) {
	refusals := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusOK, http.StatusUnprocessableEntity}
	in, err := (&Receiver{Listen: "127.0.0.1:0"}).receive(newMeter(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	n := 0
	in.open("/v1/x", &signature.Verifier{})
	in.sicken("/v1/x", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(refusals[n])
		n++
	})
	d := newDesk(&deployment.Deployment{Config: deployment.Config{Alerts: in.url}})
	if err := d.call(t.Context(), http.MethodGet, "/v1/x", nil, nil); err != nil || n != 3 {
		t.Errorf("after %d attempts: %v", n, err)
	}
	if err := d.call(t.Context(), http.MethodGet, "/v1/x", nil, nil); err == nil || n != 4 || !strings.Contains(err.Error(), "422") {
		t.Errorf("after %d attempts: %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.call(ctx, http.MethodGet, "/v1/x", nil, nil); err == nil {
		t.Error("asked although there is no time")
	}
}

func TestAlertsRefuse(t *testing.T) {
	alerts := func(change func(*Alerts), want string) {
		t.Helper()
		v := DefaultAlerts()
		change(&v)
		if err := v.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something about %s", err, want)
		}
	}
	alerts(func(v *Alerts) { v.Rate = 0 }, "--rate")
	alerts(func(v *Alerts) { v.Instruments = 0 }, "--instruments")
	alerts(func(v *Alerts) { v.Each = 0 }, "--each")
	alerts(func(v *Alerts) { v.Endpoints = 0 }, "--endpoints")
	alerts(func(v *Alerts) { v.InFlight = 101 }, "--in-flight")
	alerts(func(v *Alerts) { v.Drain = -1 }, "--drain")
	alerts(func(v *Alerts) { v.Listen = "here" }, "--receive:")
	alerts(func(v *Alerts) { v.URL = "127.0.0.1:80" }, "--receive-url")
	alerts(func(v *Alerts) { v.Deployment.WS = "ws://127.0.0.1:1" }, "--alerts")
	alerts(func(v *Alerts) { v.Deployment.Alerts = "http://127.0.0.1:1" }, "--kafka")
	storm := func(change func(*Storm), want string) {
		t.Helper()
		v := DefaultStorm()
		change(&v)
		if err := v.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want something about %s", err, want)
		}
	}
	storm(func(v *Storm) { v.Alerts = 0 }, "--fires")
	storm(func(v *Storm) { v.Every = time.Millisecond }, "--every")
	storm(func(v *Storm) { v.Bad = 10 }, "--bad")
	storm(func(v *Storm) { v.Repeat = 0 }, "--repeat")
}
