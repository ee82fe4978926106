package target

import (
	"context"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// nowhere is a sink that counts.
type nowhere int

func (n *nowhere) publish(int, wire.Template, []byte) error { *n++; return nil }

// TestCount has publishing end by itself.
func TestCount(t *testing.T) {
	var n nowhere
	p := publisher{sink: &n, maker: newMaker(market.Trades, 3, 90)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		if err := p.run(ctx, Plan{Schedule: schedule.Constant(1e6), Start: time.Now().UnixMicro(), Count: 500}); err != nil || ctx.Err() != nil {
			t.Fatal(err, ctx.Err())
		}
	}
	if n != 1000 {
		t.Errorf("%d messages", n)
	}
}

// TestLate has a sink that is held up once: what fell due meanwhile is as late.
func TestLate(t *testing.T) {
	held := false
	p := publisher{sink: sinkFunc(func() {
		if !held {
			held = true
			time.Sleep(200 * time.Millisecond) // what is measured
		}
	}), maker: newMaker(market.Trades, 1, 90)}
	if p99, greatest := p.late.read(); p99 != 0 || greatest != 0 {
		t.Errorf("%v, %v before anything was published", p99, greatest)
	}
	if err := p.run(t.Context(), Plan{Schedule: schedule.Constant(1000), Start: time.Now().UnixMicro(), Count: 400}); err != nil {
		t.Fatal(err)
	}
	if p99, greatest := p.late.read(); p99 < 150*time.Millisecond || greatest < 190*time.Millisecond {
		t.Errorf("p99 %v, at most %v", p99, greatest)
	}
	p.late.reset()
	if _, greatest := p.late.read(); greatest != 0 {
		t.Errorf("%v after a reset", greatest)
	}
}

// sinkFunc is called for each message.
type sinkFunc func()

func (f sinkFunc) publish(int, wire.Template, []byte) error { f(); return nil }
