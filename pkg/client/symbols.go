package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// symbols learns the instruments of an edge from the values it sends for all of them: the protocol has no list of them,
// and only JSON names them.
type symbols struct {
	value
	seen map[string]bool
	want int // as many as the edge says there are; 0 before its answer
	done context.CancelFunc
}

func (w *symbols) acked(s *session, row *wire.Row) {
	w.value.acked(s, row)
	w.want = int(row.N)
	w.enough()
}

// saw notes an instrument that a message names.
func (w *symbols) saw(sym []byte) {
	if string(sym) != wire.Wildcard && !w.seen[string(sym)] {
		w.seen[string(sym)] = true
		w.enough()
	}
}

func (w *symbols) enough() {
	if w.phase == synced && len(w.seen) >= w.want {
		w.done()
	}
}

// Symbols lists the instruments that an edge has a best bid and offer for, sorted. It makes a connection of its own and
// waits at most for wait for the last of them. The handler of cfg is not used.
func Symbols(ctx context.Context, cfg Config, wait time.Duration) ([]string, error) {
	cfg.Encoding, cfg.Handler = JSON, Handler{}
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	w := &symbols{value: value{c.topic(wire.Topic{Channel: market.BBOs, Sym: wire.Wildcard})}, seen: map[string]bool{}, done: cancel}
	c.topics[w.id], c.all = w, w
	err = c.run(ctx, true)
	if refused := w.Err(); err == nil && refused != nil && !errors.Is(refused, ErrClosed) {
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("client: list of instruments: %w", err)
	}
	names := make([]string, 0, len(w.seen))
	for sym := range w.seen {
		names = append(names, sym)
	}
	slices.Sort(names)
	return names, nil
}
