package webhook

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/rule"
	"github.com/tickwire/tickwire/services/webhook/store"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files and the examples in docs/ALERTS.md")

// steady replaces what is different each time by what it was once: ids, times, secrets, ports.
type steady struct {
	seen  map[string]string
	count map[string]int
}

var changing = regexp.MustCompile(`(al|ep|evt|dlv|rpl|key|ten)_[0-9a-hjkmnp-tv-z]{13}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|whsec_[A-Za-z0-9+/=]+|tw_live_[A-Za-z0-9_-]+|"\d{16}"|"took_ms":[\d.]+|http://127\.0\.0\.1:\d+|"hint":"….{4}"`)

func (s *steady) text(b []byte) []byte {
	return changing.ReplaceAllFunc(b, func(old []byte) []byte {
		if have, ok := s.seen[string(old)]; ok {
			return []byte(have)
		}
		kind, _, _ := bytes.Cut(old, []byte("_"))
		n := s.count[string(kind)]
		var now string
		switch {
		case bytes.HasPrefix(old, []byte("20")):
			n = s.count["time"]
			s.count["time"]++
			now = time.Date(2026, 1, 31, 12, 0, n, 61_000_000, time.UTC).Format(time.RFC3339Nano)
		case bytes.HasPrefix(old, []byte("whsec_")):
			now = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
		case bytes.HasPrefix(old, []byte(`"hint"`)):
			now = fmt.Sprintf(`"hint":"…GKY%d"`, s.count["hint"])
			s.count["hint"]++
		case bytes.HasPrefix(old, []byte("tw_live_")) && len(old) < 20:
			now = "tw_live_n5Xq0c"
		case bytes.HasPrefix(old, []byte("tw_live_")):
			now = "tw_live_n5Xq0cWm1v7gkZ3RrQd8sYh2JtPfLb6eAoUiVxTjKwE"
		case old[0] == '"' && old[1] != 't':
			now = fmt.Sprintf(`"%d"`, 1769860800061000+n)
		case old[0] == '"':
			now = `"took_ms":8.25`
		case bytes.HasPrefix(old, []byte("http:")):
			now = "https://hooks.example.com"
		default:
			s.count[string(kind)]++
			now = fmt.Sprintf("%s_1jpvkq3d8%04d", kind, 2*n)
		}
		s.seen[string(old)] = now
		return []byte(now)
	})
}

// TestAlertExamples records what docs/ALERTS.md shows.
func TestAlertExamples(t *testing.T) {
	d := newDesk(t, nil)
	lease := d.own()()
	k, _ := d.tenant("acme")
	got := map[string][]byte{}
	s := steady{seen: map[string]string{}, count: map[string]int{}}
	record := func(name string, status int, into any, method, target, body string, headers ...string) {
		t.Helper()
		var text bytes.Buffer
		fmt.Fprintf(&text, "%s %s\n", method, target)
		for _, h := range headers {
			if !strings.HasPrefix(h, "Authorization") && !strings.HasPrefix(h, "Tickwire") {
				fmt.Fprintln(&text, h)
			}
		}
		if body != "" {
			fmt.Fprintf(&text, "\n%s\n", body)
		}
		r := d.want(status, into, method, target, body, headers...)
		fmt.Fprintf(&text, "\nHTTP %d\n", r.StatusCode())
		for _, name := range []string{"Location", "ETag"} {
			if v := r.Header.Peek(name); len(v) > 0 {
				fmt.Fprintf(&text, "%s: %s\n", name, v)
			}
		}
		if len(r.Body()) > 0 {
			fmt.Fprintf(&text, "\n%s\n", r.Body())
		}
		got[name] = s.text(text.Bytes())
	}
	hooks := receiver(t, 200)
	var e endpoint
	var al alert
	record("endpoint.txt", 201, &e, "POST", "/v1/endpoints", `{"url":"`+hooks.URL+`/tickwire","event_types":["alert.fired"]}`, k)
	record("test.txt", 200, nil, "POST", "/v1/endpoints/"+e.ID+"/test", `{}`, k)
	record("alert.txt", 201, &al, "POST", "/v1/alerts",
		`{"sym":"BTC-USDT","name":"BTC over 65k","rule":{"series":"last","op":"crosses_above","limit":"65000","mode":"recurring","hysteresis":"100","cooldown":"5m"},"metadata":{"chat":42}}`,
		k, "Idempotency-Key: 3f1c-1")
	record("wrong.txt", 422, nil, "POST", "/v1/alerts", `{"sym":"BTC-USDT","rule":{"series":"change_pct","op":"at_or_below","limit":"-2.5"}}`, k)
	record("bulk.txt", 200, nil, "POST", "/v1/alerts",
		`{"alerts":[{"sym":"ETH-USDT","rule":{"series":"volume_ratio","window":"5m","window2":"24h","op":"at_or_above","limit":"3"}},{"sym":"ETH-USD","rule":{"series":"last","op":"crosses_below","limit":"1"}}]}`, k)
	d.cross(lease, &al)
	var p eventPage
	record("events.txt", 200, &p, "GET", "/v1/events?after=0", "", k)
	record("deliveries.txt", 200, nil, "GET", "/v1/deliveries?state=queued", "", k)
	record("replay.txt", 202, nil, "POST", "/v1/replays", `{"from":"2026-01-30T00:00:00Z","states":["exhausted","held"],"endpoint":"`+e.ID+`"}`, k)
	record("rotate.txt", 200, nil, "POST", "/v1/endpoints/"+e.ID+"/rotate-secret", `{"overlap":"24h"}`, k)
	record("key.txt", 201, nil, "POST", "/v1/keys", `{"name":"ci","scopes":["alerts:read","alerts:write"]}`, k)
	for name, text := range got {
		_, body, _ := bytes.Cut(text, []byte("\nHTTP "))
		if i := bytes.IndexByte(body, '{'); i < 0 || !json.Valid(body[i:]) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	testkit.Examples{Doc: "../../docs/ALERTS.md", Kind: "alerts", Rewrite: *rewrite}.Check(t, got)
}

// cross makes an alert fire with the body that its owner would make.
func (d *desk) cross(l store.Lease, al *alert) {
	d.t.Helper()
	num, err := store.ParseID(store.AlertPrefix, al.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	found, err := d.st.AlertsByNum(d.t.Context(), []int64{num})
	if err != nil {
		d.t.Fatal(err)
	}
	scales := rule.Scales{Price: 2, Size: 5}
	spec, err := rule.Parse(al.Rule, scales)
	if err != nil {
		d.t.Fatal(err)
	}
	clock := market.FromTime(time.Date(2026, 1, 31, 12, 0, 30, 0, time.UTC))
	ev, err := firedEvent(found[num], spec, 2, &rule.Fire{
		Rule: num, ArmSeq: 1, Inst: 7, Value: 6500050, Prev: 6499990, HasPrev: true, Clock: clock, Offset: 1000,
		Seq: market.Sequence{Epoch: 1723000000, Seq: 1017}, Time: clock,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.st.Commit(d.t.Context(), &store.Commit{Lease: l, LogID: "log", Offset: 1000, Clock: clock, Fires: []store.Event{ev}}); err != nil {
		d.t.Fatal(err)
	}
}
