package rivals

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// hub is as much of a Mercure hub as the protocol's text asks of one: updates by POST, subscriptions by topic, and the history
// behind an event that a client names.
type hub struct {
	token   string // of publishers
	reader  string // of subscribers
	history bool

	mu      sync.Mutex // guards what follows
	moved   *sync.Cond
	updates []update
}

type update struct{ id, topic, data string }

func newHub(t *testing.T, history bool) (*hub, *httptest.Server) {
	t.Helper()
	h := &hub{token: target.MercureToken("secret", "publish"), reader: target.MercureToken("secret", "subscribe"), history: history}
	h.moved = sync.NewCond(&h.mu)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return h, s
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	want := h.reader
	if r.Method == http.MethodPost {
		want = h.token
	}
	switch {
	case r.URL.Path != "/.well-known/mercure":
		http.NotFound(w, r)
	case r.Header.Get("Authorization") != "Bearer "+want:
		http.Error(w, "no token of mine", http.StatusUnauthorized)
	case r.Method == http.MethodPost:
		h.mu.Lock()
		defer h.mu.Unlock()
		id := fmt.Sprintf("urn:uuid:%d", len(h.updates)+1)
		h.updates = append(h.updates, update{id, r.PostFormValue("topic"), r.PostFormValue("data")})
		h.moved.Broadcast()
		_, _ = w.Write([]byte(id)) // the publisher sees it if it fails
	default:
		h.subscribe(w, r)
	}
}

func (h *hub) subscribe(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := len(h.updates)
	if last := r.Header.Get("Last-Event-ID"); last != "" && h.history {
		next = 1 + slices.IndexFunc(h.updates, func(u update) bool { return u.id == last })
		begin := "earliest"
		if next > 0 {
			begin = last
		}
		w.Header().Set("Last-Event-ID", begin)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	topics, rc := r.URL.Query()["topic"], http.NewResponseController(w)
	text := ":\n"
	for r.Context().Err() == nil {
		for ; next < len(h.updates); next++ {
			if u := &h.updates[next]; slices.Contains(topics, u.topic) {
				text += "id: " + u.id + "\ndata: " + u.data + "\n\n"
			}
		}
		h.mu.Unlock()
		_, err := w.Write([]byte(text))
		if err == nil {
			err = rc.Flush()
		}
		h.mu.Lock()
		if text = ""; err != nil {
			return
		}
		if next == len(h.updates) {
			h.moved.Wait()
		}
	}
}

func TestMercure(t *testing.T) {
	f := func(name string, history bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, s := newHub(t, history)
			to := target.Config{Kind: target.Mercure, Publish: s.URL, PublishKey: "secret", Subscribe: s.URL, TopicName: "https://example.com/md/{topic}?x=y"}
			from := swarm.Config{Protocol: target.Mercure, SSE: true, Token: h.reader, TopicName: to.TopicName}
			measure(t, to, from, history)
			h.mu.Lock()
			defer h.mu.Unlock()
			h.moved.Broadcast()
		})
	}
	f("History", true)
	f("NoHistory", false)
	t.Run("Refused", func(t *testing.T) {
		t.Parallel()
		_, s := newHub(t, true)
		refused(t, target.Config{Kind: target.Mercure, Publish: s.URL, Subscribe: s.URL}, swarm.Config{Protocol: target.Mercure, SSE: true, JSON: true, Token: "wrong"}, "no token of mine")
	})
}

// TestRefusals has publishers refused, which must say by whom and why.
func TestRefusals(t *testing.T) {
	answer := func(status int, body string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the publisher sees it if it fails
		}))
		t.Cleanup(s.Close)
		return s
	}
	f := func(name string, to target.Config, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to.Topics, to.Channel, to.Size = 2, "trades", 80
			p := child(t, target.Name)
			err := p.Call("start", to, nil)
			if err == nil {
				err = p.Call("publish", target.Plan{Schedule: schedule.Constant(1000), Start: 1, Count: 20_000}, nil)
			}
			for s := (target.Stats{}); err == nil && s.Published == 0; {
				err = p.Call("stats", nil, &s)
			}
			if err == nil {
				err = p.Call("halt", nil, nil)
			}
			if stopped := p.Stop(); err == nil {
				err = stopped // of those that were under way
			}
			for _, w := range want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
		})
	}
	broken := answer(http.StatusServiceUnavailable, "come back later").URL
	f("Centrifugo", target.Config{Kind: target.Centrifugo, Publish: broken}, "POST "+broken+"/api/batch", "503", "come back later")
	f("CentrifugoInside", target.Config{Kind: target.Centrifugo, Publish: answer(200, `{"replies":[{"publish":{}},{"error":{"code":102,"message":"unknown channel"}}]}`).URL + "/x/"}, "/x/batch", "unknown channel")
	f("CentrifugoNonsense", target.Config{Kind: target.Centrifugo, Publish: answer(200, "hello").URL}, "hello")
	f("Mercure", target.Config{Kind: target.Mercure, Publish: broken}, "503", "come back later")
	f("Nchan", target.Config{Kind: target.Nchan, Publish: broken + "/{topic}"}, "POST "+broken+"/S000", "503", "come back later")
	f("NchanTopic", target.Config{Kind: target.Nchan, Publish: broken}, "no {topic}")
	f("NATSScheme", target.Config{Kind: target.NATS, Publish: broken}, "nats://")
	f("WS", target.Config{Kind: target.WS, Publish: "ws" + strings.TrimPrefix(broken, "http")}, "503", "come back later")
	f("WSScheme", target.Config{Kind: target.WS, Publish: broken}, "ws://")
	f("SBE", target.Config{Kind: target.Mercure, Publish: broken, Binary: true}, "SBE")
}
