package sse

import (
	"errors"
	"time"

	"github.com/tickwire/tickwire/services/internal/mirror"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// enter returns the view of a spec, which it makes if there is none, and counts a client in. Whoever has it leaves it.
func (s *Server) enter(p spec) (*view, *rest.Problem) {
	if p.dated() && s.logID() == "" {
		return nil, whyNot(mirror.ErrNotReady)
	}
	key := p.key()
	s.viewsMu.Lock()
	v := s.views[key]
	made := v == nil
	var dropped *view
	if made {
		if len(s.views) >= s.cfg.MaxViews {
			dropped = s.dropUnused()
		}
		if len(s.views) >= s.cfg.MaxViews {
			s.viewsMu.Unlock()
			return nil, &rest.Problem{Status: 503, Code: "not_ready", Detail: "too many different streams are open; ask for fewer symbols in common combinations, or later"}
		}
		v = newView(s, p)
		s.views[key] = v
	}
	v.clients++
	s.viewsMu.Unlock()
	if dropped != nil {
		s.mirror.Untap(dropped, dropped.tapped)
	}
	if made {
		v.failed = v.begin()
		if v.failed != nil {
			s.viewsMu.Lock()
			delete(s.views, key)
			s.viewsMu.Unlock()
		}
		close(v.ready)
	}
	<-v.ready
	if v.failed != nil {
		return nil, whyNot(v.failed)
	}
	return v, nil
}

// whyNot is what a client hears of a view that can't begin.
func whyNot(err error) *rest.Problem {
	var unknown *mirror.UnknownError
	switch {
	case errors.As(err, &unknown):
		return &rest.Problem{Status: 404, Code: "unknown_symbol", Detail: unknown.Error(), Param: "symbols"}
	case errors.Is(err, errPartitions):
		return &rest.Problem{Status: 400, Code: "bad_request", Detail: "the symbols lie in more than 16 partitions; ask for fewer in one stream", Param: "symbols"}
	}
	return &rest.Problem{Status: 503, Code: "not_ready", Detail: "this server is still reading the market's state; try again in a second"}
}

// dropUnused makes room for a view, unless all have clients: nobody is kept out by those that linger. viewsMu is held.
func (s *Server) dropUnused() *view {
	for key, v := range s.views {
		if v.clients == 0 {
			delete(s.views, key)
			return v
		}
	}
	return nil
}

// leave counts a client out.
func (s *Server) leave(v *view) {
	s.viewsMu.Lock()
	defer s.viewsMu.Unlock()
	if v.clients--; v.clients == 0 {
		v.unused = s.now()
	}
}

// sweepViews drops the views that nobody has wanted for a while, and sends heartbeats.
func (s *Server) sweepViews(now time.Duration) {
	s.viewsMu.Lock()
	var gone, kept []*view
	for key, v := range s.views {
		if v.clients == 0 && now-v.unused > lingerFor {
			gone = append(gone, v)
			delete(s.views, key)
			continue
		}
		kept = append(kept, v)
	}
	s.viewsMu.Unlock()
	for _, v := range gone {
		s.mirror.Untap(v, v.tapped)
	}
	for _, v := range kept {
		v.sweep(now)
	}
}

// beatViews lets the views publish whose rate is due with the n-th beat.
func (s *Server) beatViews(n int) {
	s.viewsMu.Lock()
	s.beating = s.beating[:0]
	for _, v := range s.views {
		if every := int(max(v.rate, statusRate) / beatEvery); n%every == 0 && v.due.Load() {
			s.beating = append(s.beating, v)
		}
	}
	s.viewsMu.Unlock()
	all := make([]taken, 0, len(s.beating))
	for i, v := range s.beating {
		if t, ok := v.gather(); ok {
			all = append(all, t)
		}
		s.beating[i] = nil
	}
	var looks looks
	for i := range all {
		all[i].deliver(&looks)
	}
}

// statusRate is how often a stream of rate 0 looks for changed states.
const statusRate = 100 * time.Millisecond
