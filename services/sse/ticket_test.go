package sse

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/services/internal/testkit"
)

// answered is a request that the edge has dealt with.
func (s *Server) answered(t testing.TB, method, path string, headers ...string) *fasthttp.RequestCtx {
	t.Helper()
	ctx := incoming(t, method, path, headers...)
	s.handle(ctx)
	return ctx
}

// ticket asks for a ticket.
func (s *Server) ticket(t testing.TB, token string) string {
	t.Helper()
	ctx := s.answered(t, "POST", "/v1/ticket", "Authorization: Bearer "+token)
	var answer struct {
		Ticket    string `json:"ticket"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.Unmarshal(ctx.Response.Body(), &answer); err != nil || len(answer.Ticket) != ticketLength || answer.ExpiresIn != 60 {
		t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if got := string(ctx.Response.Header.Peek("Cache-Control")); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	return answer.Ticket
}

func TestTicket(t *testing.T) {
	s, _ := asking(t, "required", "", nil)
	use := func(ticket, want string) {
		t.Helper()
		ctx := incoming(t, "GET", "/v1/sse/ticker?symbols=BTC-USDT&ticket="+ticket)
		g, ok := s.admit(ctx)
		switch {
		case ok && g.Subject == want:
		case !ok && problemOf(t, ctx).Code == want && problemOf(t, ctx).Param == "ticket":
		default:
			t.Errorf("%v %d %s, want %s", g, ctx.Response.StatusCode(), ctx.Response.Body(), want)
		}
	}
	first := s.ticket(t, testkit.Token("alice", time.Hour, ""))
	second := s.ticket(t, testkit.Token("bob", time.Hour, ""))
	use(second, "bob")
	use(first, "alice")
	use(first, "auth_failed")
	use(second, "auth_failed")
	use(strings.Repeat("A", ticketLength), "auth_failed")
	use("A", "auth_failed")
	if len(s.tickets.given)+s.tickets.queue.Len()+len(s.tickets.subjects) != 0 {
		t.Error("used tickets are remembered")
	}
	f := func(status int, code, method, path string, headers ...string) {
		t.Helper()
		ctx := s.answered(t, method, path, headers...)
		if p := problemOf(t, ctx); p.Status != status || p.Code != code {
			t.Errorf("%s %s: %+v, want %d %s", method, path, p, status, code)
		}
	}
	f(405, "bad_request", "GET", "/v1/ticket", "Authorization: Bearer "+testkit.Token("alice", time.Hour, ""))
	f(401, "auth_required", "POST", "/v1/ticket")
	f(401, "auth_required", "POST", "/v1/ticket?ticket="+s.ticket(t, testkit.Token("alice", time.Hour, "")))
	f(401, "auth_failed", "POST", "/v1/ticket", "Authorization: Bearer nonsense")
	f(405, "bad_request", "POST", "/v1/time")
}

// TestTicketsWithoutTokens has clients that always ask for a ticket, where nobody needs one.
func TestTicketsWithoutTokens(t *testing.T) {
	s, _ := asking(t, "optional", "", nil)
	if p := problemOf(t, s.answered(t, "POST", "/v1/ticket")); p.Code != "auth_required" {
		t.Errorf("%+v", p)
	}
	s, _ = asking(t, "none", "", func(c *Config) { c.Edge.Auth.HS256File, c.Edge.Auth.KeysFile = "", "" })
	text := s.ticket(t, "nonsense")
	for range 2 {
		if _, ok := s.admit(incoming(t, "GET", "/v1/time?ticket="+text)); !ok {
			t.Error("refused where nobody is asked")
		}
	}
	if s.tickets.queue.Len() != 0 {
		t.Error("tickets are kept that nobody will look at")
	}
}

func TestTicketExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := asking(t, "required", "", nil)
		admitted := func(ticket string) (code string) {
			ctx := incoming(t, "GET", "/v1/time?ticket="+ticket)
			if _, ok := s.admit(ctx); ok {
				return ""
			}
			return problemOf(t, ctx).Code
		}
		early, late, short := s.ticket(t, testkit.Token("alice", time.Hour, "")), s.ticket(t, testkit.Token("alice", time.Hour, "")), s.ticket(t, testkit.Token("alice", 20*time.Second, ""))
		time.Sleep(ticketLife - time.Nanosecond)
		if code := admitted(early); code != "" {
			t.Errorf("just in time: %s", code)
		}
		if code := admitted(short); code != "auth_expired" {
			t.Errorf("of a token that has expired: %q", code)
		}
		time.Sleep(time.Nanosecond)
		if code := admitted(late); code != "auth_failed" {
			t.Errorf("too late: %q", code)
		}
		s.ticket(t, testkit.Token("bob", time.Hour, ""))
		time.Sleep(ticketLife)
		s.ticket(t, testkit.Token("alice", time.Hour, ""))
		if s.tickets.queue.Len() != 1 || len(s.tickets.given) != 1 || len(s.tickets.subjects) != 1 {
			t.Errorf("%d tickets are remembered", s.tickets.queue.Len())
		}
	})
}

// TestManyTickets asks for more than there may be.
func TestManyTickets(t *testing.T) {
	k := newTickets()
	for i := range maxTickets {
		g := &auth.Grant{Subject: fmt.Sprint(i % 20)}
		if err := k.give(newTicketID(), g); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := k.give(newTicketID(), &auth.Grant{Subject: "new"}); !errors.Is(err, errTickets) {
		t.Errorf("one more: %v", err)
	}
	k = newTickets()
	alice := &auth.Grant{Subject: "alice"}
	for range maxSubjectTickets {
		if err := k.give(newTicketID(), alice); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.give(newTicketID(), alice); !errors.Is(err, errSubjectTickets) {
		t.Errorf("one more of one subject: %v", err)
	}
	if err := k.give(newTicketID(), &auth.Grant{Subject: "bob"}); err != nil {
		t.Errorf("of another one: %v", err)
	}
}

// TestRevoked takes keys away that tickets and streams stand on.
func TestRevoked(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{})
	other, otherEntry := testkit.NewKey(t, "desk-2", auth.Scope{})
	synctest.Test(t, func(t *testing.T) {
		s, path := asking(t, "required", "keys:\n"+entry+otherEntry, nil)
		grant := func(key string) *auth.Grant {
			t.Helper()
			g, ok := s.admit(incoming(t, "GET", "/v1/time", "Authorization: Bearer "+key))
			if !ok {
				t.Fatal("a key is refused")
			}
			return g
		}
		gone, kept := grant(key), grant(other)
		short := grant(testkit.Token("alice", 30*time.Second, ""))
		ticket := s.ticket(t, key)
		p := &spec{channel: streamed["trades"], syms: []string{"BTC-USDT"}}
		for _, g := range []*auth.Grant{gone, kept, short} {
			if s.renew(g, p) != g {
				t.Errorf("%s: not the same while nothing has changed", g.Subject)
			}
		}
		go s.access.Run(t.Context())
		rewrite := func(keys string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(keys), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second) // of the bubble's
		}
		rewrite("keys:\n" + otherEntry)
		if s.renew(gone, p) != nil {
			t.Error("a stream goes on without its key")
		}
		if kept = s.renew(kept, p); kept == nil {
			t.Fatal("another key's stream ends")
		}
		if s.renew(short, p) != short {
			t.Error("a JWT's stream ends because the key file has changed")
		}
		ctx := incoming(t, "GET", "/v1/time?ticket="+ticket)
		if _, ok := s.admit(ctx); ok || problemOf(t, ctx).Code != "auth_failed" {
			t.Errorf("a ticket of a key that is gone: %s", ctx.Response.Body())
		}
		rewrite("keys:\n" + otherEntry + "    symbols: [ETH-*]\n")
		if s.renew(kept, p) != nil {
			t.Error("a stream goes on that its key does not cover any more")
		}
		time.Sleep(time.Minute)
		if s.renew(short, p) != nil {
			t.Error("a stream goes on though its token has expired")
		}
	})
}

// TestTokenInAddress shows a token where everyone can read it.
func TestTokenInAddress(t *testing.T) {
	key, entry := testkit.NewKey(t, "desk-1", auth.Scope{})
	s, _ := asking(t, "required", "keys:\n"+entry, nil)
	good := testkit.Token("alice", time.Hour, "")
	for _, query := range []string{"token=" + good, "access_token=" + good, "ticket=" + good, "ticket=" + key, "api_key=" + key} {
		ctx := incoming(t, "GET", "/v1/time?"+query)
		_, ok := s.admit(ctx)
		name, secret, _ := strings.Cut(query, "=")
		if p := problemOf(t, ctx); ok || p.Status != 400 || p.Param != name {
			t.Errorf("%s: %+v", name, p)
		}
		if strings.Contains(string(ctx.Response.Body())+ctx.Response.Header.String(), secret) {
			t.Errorf("%s: the answer tells the token", name)
		}
	}
}

func TestPreflight(t *testing.T) {
	s, _ := asking(t, "required", "", nil)
	ctx := s.answered(t, "OPTIONS", "/v1/ticket", "Origin: https://a.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
	h := &ctx.Response.Header
	if ctx.Response.StatusCode() != 204 || string(h.Peek("Access-Control-Allow-Origin")) != "*" ||
		!strings.Contains(string(h.Peek("Access-Control-Allow-Methods")), "POST") || !strings.Contains(string(h.Peek("Access-Control-Allow-Headers")), "Authorization") {
		t.Errorf("%d %s", ctx.Response.StatusCode(), h)
	}
}
