package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
)

// renewAgain is how long after a token that could not be had, or was not taken, another one is tried.
const renewAgain = 5 * time.Second

// renewal keeps a connection's token good.
type renewal struct {
	ctx     context.Context // of the connection
	fetches sync.WaitGroup
	at      atomic.Int64 // when to try again, as nanoseconds since Client.base; 0 when nothing is to be done
}

// renew gets another token and shows it to the edge, beside the reader: Config.Token may take its time.
func (s *session) renew() {
	s.renewal.at.Store(0)
	if s.c.cfg.Token == nil {
		return
	}
	s.renewal.fetches.Go(func() {
		token, err := s.c.cfg.Token(s.renewal.ctx)
		if err != nil {
			s.renewLater()
			return
		}
		s.c.mu.Lock()
		if s.pending == nil { // the connection has ended
			s.c.mu.Unlock()
			return
		}
		id := s.newRequest(&request{op: wire.OpAuth})
		s.c.mu.Unlock()
		s.send(&wire.Request{Op: wire.OpAuth, ID: id, Token: token})
	})
}

func (s *session) renewLater() { s.renewal.at.Store(int64(time.Since(s.c.base) + renewAgain)) }

// renewIfDue runs at each heartbeat.
func (s *session) renewIfDue() {
	if at := s.renewal.at.Load(); at != 0 && int64(time.Since(s.c.base)) >= at {
		s.renew()
	}
}
