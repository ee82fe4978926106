package client_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/wire"
)

// window is the edge's side of the flow window: what it sent and what was acknowledged.
type window struct {
	t           *testing.T
	p           *peer
	size        uint64
	sent, acked uint64
	acks, asked int
}

// take reads what the client sent and holds it to the protocol's rules.
func (w *window) take() {
	for {
		select {
		case r := <-w.p.requests:
			switch r.Op {
			case wire.OpAck:
				w.acks++
				if r.Bytes > w.sent || r.Bytes < w.acked {
					w.t.Fatalf("acknowledged %d of %d bytes, after %d", r.Bytes, w.sent, w.acked)
				}
				w.acked = r.Bytes
			case wire.OpFlow:
				w.asked++
				w.size = uint64(r.Window)
				reply := wire.AppendAck(nil, &wire.Ack{ID: r.ID, Window: r.Window})
				w.p.text(reply)
				if w.asked > 1 {
					w.sent += uint64(len(reply))
				}
			default:
				w.t.Fatalf("the client sent %v", r.Op)
			}
		default:
			return
		}
	}
}

// send sends updates until so many bytes have gone, as the window lets it.
func (w *window) send(s *source, bytes uint64) {
	for end, i := w.sent+bytes, 0; w.sent < end; i++ {
		for w.sent-w.acked >= w.size {
			time.Sleep(100 * time.Microsecond)
			synctest.Wait()
			w.take()
		}
		b := wire.AppendDelta(nil, s.change(i))
		w.p.binary(b)
		w.sent += uint64(len(b))
		synctest.Wait()
		w.take()
	}
}

func TestFlow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		delay := time.Duration(0)
		s := newSource(false).fill(20)
		h := start(t, func(cfg *client.Config, _ *note) {
			cfg.Window = 0
			cfg.Handler.OnBook = func(*client.Book, *client.BookUpdate) { time.Sleep(delay) }
		})
		defer h.end()
		b := must(h.c.Book(inst.Sym, client.BookView{}))(t)
		p := h.edge.next()
		p.hello()
		r := p.expect(wire.OpFlow)
		if r.Window != 64<<10 {
			t.Errorf("asks for a window of %d", r.Window)
		}
		w := &window{t: t, p: p, size: uint64(r.Window), asked: 1}
		sub := p.expect(wire.OpSub)
		p.text(wire.AppendAck(nil, &wire.Ack{ID: r.ID, Window: r.Window})) // counting begins behind it
		ack := wire.AppendAck(nil, &wire.Ack{ID: sub.ID, OK: []wire.Row{rowOf(sub.Topics[0].Topic, s.at, wire.HowSnapshot, wire.WhyNew)}})
		p.text(ack)
		snap := wire.AppendSnapshot(nil, s.snapshot())
		p.binary(snap)
		w.sent = uint64(len(ack) + len(snap))
		w.send(s, 3<<20)
		s.same(t, b)
		if w.size != wire.MaxWindow || h.c.Stats().Window != wire.MaxWindow {
			t.Errorf("a callback that keeps up has a window of %d, %d", w.size, h.c.Stats().Window)
		}
		if perWindow := w.acks * (64 << 10) / (3 << 20); perWindow > 8 {
			t.Errorf("%d acks per window", perWindow)
		}
		if unacked := w.sent - w.acked; unacked >= w.size/2+512 {
			t.Errorf("%d bytes are handled and not acknowledged", unacked)
		}
		delay = time.Millisecond
		w.send(s, 4<<20)
		if w.size != 64<<10 {
			t.Errorf("a callback that does not keep up has a window of %d", w.size)
		}
		for w.acked+w.size/2 < w.sent {
			time.Sleep(time.Second)
			w.take()
			p.beat()
			w.sent += uint64(len(wire.AppendHeartbeat(nil, 1_764_000_000_000_000_000)))
		}
		synctest.Wait()
		s.same(t, b)
		if h.c.Stats().Reconnects != 0 {
			t.Errorf("%+v, %s", h.c.Stats(), h.note.take())
		}
	})
}
