package ws

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/tickwire/tickwire/pkg/wire"
)

// series counts the time series that a scrape would see, and adds up those of one name.
func (e *edge) series(name string) (all int, sum float64) {
	e.t.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		e.t.Fatal(err)
	}
	for _, f := range families {
		all += len(f.GetMetric())
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all, sum
}

func TestSubscriptionFlood(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.connect("")
	request := masked(0x81, []byte(`{"op":"sub","id":1,"topics":[{"ch":"book","sym":"BTC-USDT","depth":10},{"ch":"trades","sym":"BTC-USDT","last":100}]}`))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5000 {
			if _, err := p.conn.Write(request); err != nil {
				return
			}
		}
	}()
	if code := p.closed(); code != wire.CloseRate {
		t.Errorf("closed by %d", code)
	}
	<-done
	if _, n := e.series("ws_requests_total"); n > 300 {
		t.Errorf("%v requests were served", n)
	}
	wait(t, "its subscriptions are gone", func() bool { return e.s.subscriptions() == 0 })
}

// TestBadSymbols asks for ten thousand instruments that do not exist: nothing may be remembered of them.
func TestBadSymbols(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.connect("")
	ask := func(n int) {
		t.Helper()
		topics := make([]string, 0, 100)
		for k := range 100 {
			topics = append(topics, fmt.Sprintf(`{"ch":"bbo","sym":"X%d"}`, 100*n+k))
		}
		p.send(`{"op":"sub","id":1,"topics":[` + strings.Join(topics, ",") + `]}`)
		if errs := p.skipTo(wire.KindAck).Ack.Errs; len(errs) != 100 || errs[99].Code != wire.CodeUnknownSymbol {
			t.Fatalf("%d errors", len(errs))
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ask(0)
	before, _ := e.series("")
	held := heap()
	for n := range 100 {
		ask(n)
	}
	if after, _ := e.series(""); after != before {
		t.Errorf("%d time series, %d before", after, before)
	}
	if grown := int64(heap()) - int64(held); grown > 200<<10 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	if n := e.s.subscriptions(); n != 0 {
		t.Errorf("%d subscriptions", n)
	}
}

// TestAnswersNeverRead is a client that asks and asks, and reads nothing.
func TestAnswersNeverRead(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.dial()
	if err := p.conn.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	p.upgrade("")
	p.expect(wire.KindHello)
	topics := strings.Repeat(`{"ch":"nonsense","sym":"`+strings.Repeat("x", 30)+`"},`, 55)
	request := masked(0x81, []byte(`{"op":"sub","id":1,"topics":[`+strings.TrimSuffix(topics, ",")+`]}`))
	for range 180 {
		if _, err := p.conn.Write(request); err != nil {
			break // closed, as it should be
		}
	}
	wait(t, "it is sent away", func() bool { return e.s.hub.Conns() == 0 })
	if _, n := e.series("ws_slow_closes_total"); n != 1 {
		t.Errorf("%v closed as slow", n)
	}
}
