package deliver

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tickwire/tickwire/services/webhook/store"
)

var update = flag.Bool("update", false, "write golden files")

const firedBody = `{"id":"evt_0000000000001","type":"alert.fired","timestamp":"2026-03-04T05:06:07.000008Z","data":{"object":{"alert":"al_0000000000002","name":"above 65k","sym":"BTC-USDT","series":"last","op":"crosses_above","limit":"65000.5","value":"65001.0","prev":"65000.0","arm_seq":3,"ep":7,"seq":99,"ts":1772600767000008,"clock":1772600767000010,"after_gap":false,"rule":{"series":"last","op":"crosses_above","limit":"65000.5","mode":"recurring"},"metadata":{"chat":42}}}}`

func fired(body string) store.Job {
	return store.Job{Event: store.Event{ID: "evt_0000000000001", Type: store.TypeAlertFired, Sym: "BTC-USDT", Body: []byte(body)}}
}

func TestFormats(t *testing.T) {
	gap := strings.NewReplacer(`"prev":"65000.0"`, `"prev":null`, `"after_gap":false`, `"after_gap":true`).Replace(firedBody)
	hostile := strings.Replace(firedBody, "above 65k", `<!channel> *b* _i_ [x](https://evil.example) @everyone <@123> \u0000\u001b[31m\r\nSet-Cookie: a=b \u202e`+"`code` ||spoiler|| # h", 1)
	operator := store.Job{Event: store.Event{
		ID: "evt_0000000000004", Type: store.TypeEndpointFailing,
		Body: []byte(`{"id":"evt_0000000000004","type":"endpoint.failing","timestamp":"2026-03-04T05:06:07Z","data":{"object":{"endpoint":"ep_0000000000005","reason":"failing","last_error":"HTTP 500"}}}`),
	}}
	second := fired(strings.ReplaceAll(firedBody, "evt_0000000000001", "evt_0000000000009"))
	second.Event.ID = "evt_0000000000009"
	cases := map[string][]store.Job{
		"fired": {fired(firedBody)}, "gap": {fired(gap)}, "hostile": {fired(hostile)}, "operator": {operator}, "batch": {fired(firedBody), second},
	}
	for _, format := range []store.Format{store.FormatJSON, store.FormatCloudEvents, store.FormatSlack, store.FormatDiscord} {
		for name, jobs := range cases {
			tg := &target{Endpoint: store.Endpoint{Format: format, Batch: len(jobs)}}
			m, err := tg.format("tickwire.example", jobs)
			if err != nil {
				t.Errorf("%s %s: %v", format, name, err)
				continue
			}
			if !json.Valid(m.body) {
				t.Errorf("%s %s: no JSON: %s", format, name, m.body)
			}
			got := "webhook-id: " + m.id + "\ncontent-type: " + m.contentType + "\n\n" + string(m.body) + "\n"
			path := filepath.Join("testdata", string(format)+"-"+name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || string(want) != got {
				t.Errorf("%s %s (-update writes it): %v\n%s", format, name, err, got)
			}
		}
	}
}

// TestBatchOfOne: a batch has its own id and form though it has one member, which may be sent alone another time.
func TestBatchOfOne(t *testing.T) {
	job := fired(firedBody)
	job.Delivery.Batch = 12
	tg := &target{Endpoint: store.Endpoint{Format: store.FormatJSON, Batch: 1}}
	m, err := tg.format("x", []store.Job{job})
	if err != nil || !strings.HasPrefix(m.id, "bat_") || !bytes.HasPrefix(m.body, []byte(`{"id":"bat_`)) {
		t.Errorf("%s %s %v", m.id, m.body, err)
	}
}

// checkChat is what no message for people may do, whatever users named things.
func checkChat(t *testing.T, format store.Format, body []byte) {
	t.Helper()
	var m struct {
		Text     string `json:"text"`
		Mrkdwn   *bool  `json:"mrkdwn"`
		Content  string `json:"content"`
		Mentions struct {
			Parse []string `json:"parse"`
		} `json:"allowed_mentions"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	text := m.Text + m.Content
	if utf8.RuneCountInString(text) > 2000 || strings.ContainsAny(text, "\r\n\t\x00\x1b\u202e\u2028") {
		t.Errorf("%q", text)
	}
	switch format {
	case store.FormatSlack:
		if strings.ContainsAny(text, "<>") || m.Mrkdwn == nil || *m.Mrkdwn {
			t.Errorf("mark-up in %q", text)
		}
	case store.FormatDiscord:
		if m.Mentions.Parse == nil || len(m.Mentions.Parse) != 0 {
			t.Errorf("mentions in %s", body)
		}
		bare := strings.NewReplacer(`\\`, "", `\*`, "", `\_`, "", `\~`, "", "\\`", "", `\|`, "", `\<`, "", `\>`, "", `\@`, "", `\#`, "", `\[`, "", `\]`, "", `\(`, "", `\)`, "", `\:`, "").Replace(strings.SplitN(text, ": ", 2)[1])
		if i := strings.IndexAny(bare, "*_~`|<>@#["); i >= 0 && !strings.HasPrefix(bare[i:], "(after a gap)") {
			t.Errorf("mark-up in %q", text)
		}
	}
}

func FuzzChat(f *testing.F) {
	f.Add("above 65k", "BTC-USDT")
	f.Add("<!channel> & <@U1>", "@everyone **x**")
	f.Add(strings.Repeat("*", 150), strings.Repeat("\u202e", 130))
	f.Fuzz(func(t *testing.T, name, sym string) {
		body, err := json.Marshal(map[string]any{"data": map[string]any{"object": map[string]any{"name": name, "sym": sym, "series": "last", "op": "crosses_above", "limit": "1", "value": "2", "prev": "0"}}})
		if err != nil {
			t.Skip()
		}
		for _, format := range []store.Format{store.FormatSlack, store.FormatDiscord} {
			got, err := chat(format, []store.Job{fired(string(body))})
			if err != nil {
				t.Fatal(err)
			}
			checkChat(t, format, got)
		}
	})
}

func TestHeaders(t *testing.T) {
	f := func(name, value, want string) {
		t.Helper()
		if err := CheckHeaders([]store.Header{{Name: name, Value: value}}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q: %v, want %q", name, value, err, want)
		}
	}
	f("Authorization", "Bearer x", "")
	f("X-Token", "a\tb", "")
	f("User-Agent", "mine", "")
	f("X-Token", "a\r\nX-Other: b", "control")
	f("X-Token", "a\nb", "control")
	f("X-Token", "a\x00b", "control")
	f("X-Token", strings.Repeat("x", 4097), "4096")
	f("X Token", "a", "no name")
	f("X-Token:", "a", "no name")
	f("", "a", "no name")
	f("X\r\nY", "a", "no name")
	for _, name := range []string{
		"host", "Content-Length", "content-type", "Transfer-Encoding", "connection", "te", "Webhook-Id", "webhook-signature", "WEBHOOK-TIMESTAMP", "Stripe-Signature",
		"X-Hub-Signature-256", "x-slack-signature", "X-Razorpay-Signature", "Proxy-Authorization", "Expect", "Idempotency-Key",
	} {
		f(name, "a", "not for endpoints")
	}
	if err := CheckHeaders([]store.Header{{Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"}}); err == nil {
		t.Error("twice the same")
	}
	if err := CheckHeaders(make([]store.Header, 21)); err == nil {
		t.Error("21 headers")
	}
}

// TestStoredValuesStayValues: what got into the store in spite of all checks does not get into a request.
func TestStoredValuesStayValues(t *testing.T) {
	s := sender(t, newMemory(), nil)
	asked := false
	s.client = &http.Client{Transport: round(func(*http.Request) (*http.Response, error) {
		asked = true
		return reply(200), nil
	})}
	good := store.Event{ID: "evt_1", Type: store.TypeTest, Body: []byte(`{}`)}
	f := func(change func(*store.Endpoint, *store.Event)) {
		t.Helper()
		ep, ev := endpoint(1, "http://example.com/"), good
		change(&ep, &ev)
		if r := s.Test(t.Context(), &ep, &ev); r.OK() || asked || r.kind != unfit || r.Err == "" || strings.ContainsAny(r.Err, "\r\n") {
			t.Errorf("%+v", r)
		}
		asked = false
	}
	f(func(ep *store.Endpoint, _ *store.Event) {
		ep.Headers = []store.Header{{Name: "X-A", Value: "1\r\nX-B: 2"}}
	})
	f(func(ep *store.Endpoint, _ *store.Event) {
		ep.Headers = []store.Header{{Name: "Webhook-Signature", Value: "v1,x"}}
	})
	f(func(_ *store.Endpoint, ev *store.Event) { ev.ID = "evt_1\r\nX-B: 2" })
	f(func(_ *store.Endpoint, ev *store.Event) { ev.ID = "evt.1" })
	f(func(ep *store.Endpoint, _ *store.Event) { ep.URL = "http://example.com/\r\nX: y" })
	f(func(ep *store.Endpoint, _ *store.Event) { ep.Secrets = nil })
	f(func(ep *store.Endpoint, _ *store.Event) { ep.Secrets[0].Text = "whsec_short" })
	f(func(ep *store.Endpoint, _ *store.Event) { ep.TLS = &store.ClientTLS{CA: "no PEM"} })
}

func TestPrintable(t *testing.T) {
	f := func(in string, n int, want string) {
		t.Helper()
		if got := printable([]byte(in), n); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	f("ok\n", 100, "ok")
	f("a\r\nb\tc", 100, "a  b c")
	f("\x1b[31mred\x00", 100, "�[31mred�")
	f("\xff\xfe", 100, "��")
	f("naïve", 3, "na")
	f("\u202etxt", 100, "�txt")
}
