package verifiers

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/pkg/signature"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/deliver"
	"github.com/tickwire/tickwire/services/webhook/store"
)

const cache = "webhook-verifiers"

// library is one under test.
type library struct {
	language, name string
	timed          bool // it looks at the time
	several        bool // a request holds a signature by each secret
}

var libraries = []library{
	{"js", "standardwebhooks", true, true},
	{"js", "svix", true, true},
	{"js", "stripe", true, true},
	{"js", "octokit", false, false},
	{"js", "razorpay", false, false},
	{"python", "standardwebhooks", true, true},
	{"python", "svix", true, true},
	{"python", "stripe", true, true},
	{"python", "slack_sdk", true, false},
	{"python", "razorpay", false, false},
	{"go", "standardwebhooks", true, true},
	{"go", "svix", true, true},
	{"go", "stripe", true, true},
}

var languages = map[string]func(t *testing.T) *exec.Cmd{
	"js": func(t *testing.T) *exec.Cmd {
		node, dir := testkit.Node(t, cache)
		cmd := exec.Command(node, "verify.mjs")
		cmd.Dir = dir
		return cmd
	},
	"python": func(t *testing.T) *exec.Cmd {
		python, dir := testkit.Python(t, cache)
		cmd := exec.Command(python, "verify.py")
		cmd.Dir = dir
		return cmd
	},
	"go": func(t *testing.T) *exec.Cmd { return exec.Command(testkit.GoProgram(t, cache, "go")) },
}

// request is what a verifier is asked.
type request struct {
	Library string            `json:"library"`
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"` // names in lower case
	Body    []byte            `json:"body"`
}

// program is a running verifier.
type program struct {
	in  *json.Encoder
	out *json.Decoder
}

func start(t *testing.T, language string) *program {
	t.Helper()
	cmd := languages[language](t)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", language, err)
		}
	})
	return &program{in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

func (p *program) ask(t *testing.T, r *request) (ok bool, why string) {
	t.Helper()
	var a struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := p.in.Encode(r); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.OK, a.Error
}

// receiver keeps the last request as it came.
type receiver struct {
	mu   sync.Mutex
	last *request
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	got := &request{Headers: map[string]string{}, Body: b}
	for name, values := range req.Header {
		got.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	r.mu.Lock()
	r.last = got
	r.mu.Unlock()
	w.Header().Set("Connection", "close") // what is sent in a bubble ends in it
}

const body = `{"id":"evt_0000000000001","type":"alert.fired","timestamp":"2026-03-04T05:06:07.000008Z","data":{"object":{"alert":"al_0000000000002","name":"über 65k – “x”","sym":"BTC-USDT","series":"last","op":"crosses_above","limit":"65000.5","value":"65001.0","prev":null,"arm_seq":3}}}`

// sent has our sender make a request, signed by secrets.
func sent(t *testing.T, url string, r *receiver, secrets ...store.Secret) request {
	t.Helper()
	cfg := deliver.DefaultConfig()
	cfg.AllowNets, cfg.AllowPorts = []string{"127.0.0.0/8"}, []string{"1-65535"}
	s, err := deliver.New(cfg, deliver.Deps{Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	ep := store.Endpoint{
		Num: 1, URL: url, State: store.EndpointEnabled, Format: store.FormatJSON, Batch: 1, Secrets: secrets,
		Signatures: []string{"stripe", "github", "slack", "razorpay"},
	}
	result := s.Test(t.Context(), &ep, &store.Event{ID: "evt_0000000000001", Type: store.TypeAlertFired, Body: []byte(body)})
	if !result.OK() {
		t.Fatalf("%+v", result)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.last
}

func TestVerifiers(t *testing.T) {
	if os.Getenv("TICKWIRE_WEBHOOK_VERIFIERS") == "" {
		t.Skip("it is: make webhook-verifiers")
	}
	in := &receiver{}
	server := httptest.NewServer(in)
	defer server.Close()
	now := time.Now()
	newer, older, foreign := signature.NewSecret().Text(), signature.NewSecret().Text(), signature.NewSecret().Text()
	asymmetric := store.Secret{Num: 3, Kind: store.SecretV1a, Text: signature.NewPrivateKey().Text()}
	secret := func(text string, expires time.Time) store.Secret {
		return store.Secret{Num: 1, Kind: store.SecretV1, Text: text, Expires: expires}
	}
	fresh := sent(t, server.URL, in, secret(older, time.Time{}))
	both := sent(t, server.URL, in, secret(newer, time.Time{}), asymmetric, secret(older, now.Add(time.Hour)))
	after := sent(t, server.URL, in, secret(newer, time.Time{}), asymmetric, secret(older, now.Add(-time.Second)))
	var stale request
	synctest.Test(t, func(t *testing.T) { // where it is the year 2000
		stale = sent(t, server.URL, in, secret(older, time.Time{}))
	})

	programs := map[string]*program{}
	for language := range languages {
		programs[language] = start(t, language)
	}
	for _, l := range libraries {
		t.Run(l.language+" "+l.name, func(t *testing.T) {
			f := func(what string, r request, secret string, want bool) {
				t.Helper()
				r.Library, r.Secret = l.name, secret
				if ok, why := programs[l.language].ask(t, &r); ok != want {
					t.Errorf("%s: accepted: %v (%s), want %v", what, ok, why, want)
				} else {
					t.Logf("%s: %v %s", what, ok, why)
				}
			}
			f("a request", fresh, older, true)
			f("with another secret", fresh, foreign, false)
			f("with its body altered", altered(fresh), older, false)
			f("with its signature altered", forged(fresh), older, false)
			f("of the year 2000", stale, older, !l.timed)
			f("of the year 2000 with today's time", dated(stale, fresh), older, !l.timed)
			f("while the secret is replaced, by the old one", both, older, true)
			f("while the secret is replaced, by the new one", both, newer, l.several)
			f("while the secret is replaced, by another", both, foreign, false)
			f("after that, by the new one", after, newer, true)
			f("after that, by the old one", after, older, false)
		})
	}
}

// altered changes a byte of the body and leaves it JSON.
func altered(r request) request {
	r.Body = []byte(strings.Replace(string(r.Body), "65001.0", "65001.1", 1))
	return r
}

// forged changes a digit of each signature.
func forged(r request) request {
	return with(r, func(name, value string) string {
		if !strings.Contains(name, "signature") {
			return value
		}
		i := len(value) - 10
		digit := "0"
		if value[i] == '0' {
			digit = "1"
		}
		return value[:i] + digit + value[i+1:]
	})
}

// dated gives a request the time of another, which its signatures don't hold.
func dated(r, of request) request {
	return with(r, func(name, value string) string {
		switch name {
		case "webhook-timestamp", "x-slack-request-timestamp":
			return of.Headers[name]
		case "stripe-signature":
			_, signatures, _ := strings.Cut(value, ",")
			t, _, _ := strings.Cut(of.Headers[name], ",")
			return t + "," + signatures
		}
		return value
	})
}

func with(r request, change func(name, value string) string) request {
	headers := make(map[string]string, len(r.Headers))
	for name, value := range r.Headers {
		headers[name] = change(name, value)
	}
	r.Headers = headers
	return r
}
