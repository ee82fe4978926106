package ws

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// TestMetrics serves some clients and looks at what a scrape tells of it.
func TestMetrics(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.connect(wire.SubprotocolSBE)
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"BTC-USDT"},{"ch":"bbo","sym":"BTC-USDT"},{"ch":"bbo","sym":"NO"}]}`)
	p.expect(wire.KindAck)
	for range 10 {
		e.trade()
	}
	for p.msg.Trade.Seq < 10 {
		p.skipTo(wire.KindTrade)
	}
	bad := e.connect("")
	bad.write([]byte{0xC1, 0x80, 0, 0, 0, 0})
	bad.closed()
	leaver := e.connect("")
	leaver.write(masked(0x88, []byte{0x0F, 0xA0})) // a code of its own choice
	leaver.closed()
	wrong := e.dial()
	wrong.write([]byte(upgradeRequest("/other", "")))
	wrong.answer()
	wait(t, "they are gone", func() bool { return e.s.hub.Conns() == 1 })
	wait(t, "their ends are counted", func() bool { _, n := e.series("ws_closes_total"); return n == 2 })

	families, err := e.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("names: %v %v", problems, err)
	}
	want := map[string]float64{
		"ws_connections": 1, "ws_subscriptions": 2, "ws_requests_total": 1,
		"ws_errors_total{code=unknown_symbol}": 1, "ws_closes_total{code=1002}": 1, "ws_closes_total{code=client}": 1,
		"ws_connections_refused_total{reason=handshake}": 1, "ws_protocol_violations_total": 1,
		"ws_conflated_total": 0, "ws_gaps_total": 0, "ws_slow_closes_total": 0, "ws_panics_total": 0, "ws_lag_seconds": 0,
	}
	atLeast := map[string]float64{
		"ws_frames_total": 14, "ws_sent_bytes_total": 500, "ws_writes_total": 4, "ws_write_frames": 4,
		"ws_publish_to_write_seconds": 1, "ws_data_age_seconds": 1, "mirror_records_total": 12,
	}
	for _, f := range families {
		if n := len(f.GetMetric()); n > 40 {
			t.Errorf("%s has %d series", f.GetName(), n)
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			if labels := m.GetLabel(); len(labels) > 0 { // none of ours has two
				name = fmt.Sprintf("%s{%s=%s}", name, labels[0].GetName(), labels[0].GetValue())
			}
			got := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			if v, ok := want[name]; ok && got != v {
				t.Errorf("%s is %v, want %v", name, got, v)
			}
			if v, ok := atLeast[name]; ok && got < v {
				t.Errorf("%s is %v, want %v or more", name, got, v)
			}
			delete(want, name)
			delete(atLeast, name)
		}
	}
	if len(want)+len(atLeast) > 0 {
		t.Errorf("missing: %v %v", want, atLeast)
	}
}

// TestAgeOfData has a raw record wait three seconds before its event is published.
func TestAgeOfData(t *testing.T) {
	e := startEdge(t, nil).market(5)
	p := e.connect("")
	p.send(`{"op":"sub","id":1,"topics":[{"ch":"trades","sym":"BTC-USDT"}]}`)
	p.expect(wire.KindAck)
	h := head(1)
	h.In -= market.Time(3e9)
	e.record(wire.TemplateTrade, wire.AppendTrade(nil, &market.Trade{Head: h, Price: 1, Size: 1}))
	p.skipTo(wire.KindTrade)
	wait(t, "the write is counted", func() bool { _, n := e.series("ws_data_age_seconds"); return n == 1 })
	if _, _, seconds := e.s.hub.Stats().Age.Buckets(1e-6); seconds < 3 || seconds > 4 {
		t.Errorf("an age of %v s", seconds)
	}
}
