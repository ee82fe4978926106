package deliver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// Test sends an event to an endpoint at once, whatever state the endpoint is in, and says what came of it. Nothing is tried
// again and nothing is kept.
func (s *Sender) Test(ctx context.Context, ep *store.Endpoint, ev *store.Event) Result {
	t := s.target(ep)
	defer t.close()
	m, err := t.format(s.cfg.Origin, []store.Job{{Event: *ev}})
	if err != nil {
		return Result{kind: unfit, Err: err.Error()}
	}
	r := t.post(ctx, &m)
	s.metrics.attempted(&r)
	return r
}

// Verify asks an endpoint whether it wants our requests, the way it has chosen; nil: it does.
func (s *Sender) Verify(ctx context.Context, ep *store.Endpoint) error {
	t := s.target(ep)
	defer t.close()
	switch ep.Verify {
	case store.VerifyChallenge:
		return s.challenge(ctx, t)
	case store.VerifyCloudEvents:
		return s.handshake(ctx, t)
	case store.VerifyNone, "":
		return nil
	}
	return fmt.Errorf("unknown way of verification %q", ep.Verify)
}

// challenge sends a random text, signed, which the endpoint has to answer: as it is, or as {"challenge": …}.
func (s *Sender) challenge(ctx context.Context, t *target) error {
	text := rand.Text()
	body, err := json.Marshal(map[string]string{"type": "endpoint.verification", "challenge": text})
	if err != nil {
		return fmt.Errorf("challenge: %w", err)
	}
	r := t.post(ctx, &message{id: store.FormatID(store.EventPrefix, store.NewID()), contentType: "application/json", body: body})
	s.metrics.attempted(&r)
	if !r.OK() {
		return errors.New(r.Err)
	}
	var answer struct {
		Challenge string `json:"challenge"`
	}
	if strings.TrimSpace(string(r.body)) == text || json.Unmarshal(r.body, &answer) == nil && answer.Challenge == text {
		return nil
	}
	return errors.New("the answer does not hold the challenge")
}

// handshake is the one of CloudEvents' "HTTP 1.1 Web Hooks", section 4: OPTIONS, and the answer names us, or anybody.
func (s *Sender) handshake(ctx context.Context, t *target) error {
	r := t.do(ctx, http.MethodOptions, &message{}, http.Header{"Webhook-Request-Origin": {s.cfg.Origin}})
	s.metrics.attempted(&r)
	if !r.OK() {
		return errors.New(r.Err)
	}
	for _, origin := range strings.Split(r.header.Get("WebHook-Allowed-Origin"), ",") {
		if origin = strings.TrimSpace(origin); origin == "*" || strings.EqualFold(origin, s.cfg.Origin) {
			return nil
		}
	}
	return errors.New("WebHook-Allowed-Origin of the answer is not ours")
}
