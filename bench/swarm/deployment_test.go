package swarm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/proc"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/services/all"
)

// call asks a part.
func call[R any](t *testing.T, p *proc.Proc, do string, arg any) (reply R) {
	t.Helper()
	if err := p.Call(do, arg, &reply); err != nil {
		t.Fatal(err)
	}
	return reply
}

// TestDeployment publishes through Kafka and ingest to servers that know nothing of a measurement. All clients must have
// everything in the end, those that came while it was published too.
func TestDeployment(t *testing.T) {
	addrs := servertest.Start(t, nil)
	f := func(channel string, json, sse bool) {
		t.Run(fmt.Sprintf("%s,json=%t,sse=%t", channel, json, sse), func(t *testing.T) {
			t.Parallel()
			const topics, clients = 20, 50
			var symbols []string
			for i := range topics {
				symbols = append(symbols, strings.ToUpper(fmt.Sprintf("%s-%t-%t-%d", channel, json, sse, i)))
			}
			url := "ws://" + addrs.WS
			if sse {
				url = "http://" + addrs.SSE
			}
			server := part(t, target.Name)
			started := call[target.Started](t, server, "start", target.Config{
				Kind: target.Kafka, Kafka: all.Kafka{Brokers: []string{addrs.Kafka}}, Subscribe: url, Symbols: symbols, Topics: topics, Channel: channel, Size: 154, SSE: sse,
			})
			if started.Addr != url || len(started.Base) != topics {
				t.Fatalf("%+v", started)
			}
			cfg := Config{Clients: clients, Channel: channel, JSON: json, SSE: sse, Topics: topics, Symbols: symbols, Base: started.Base, Each: 7, Seed: 1}
			first := part(t, Name)
			cfg.First, cfg.Number = clients, 1
			second := part(t, Name)
			for _, p := range []*proc.Proc{first, second} {
				if err := p.Call("start", cfg, nil); err != nil {
					t.Fatal(err)
				}
			}
			connect := func(p *proc.Proc) {
				t.Helper()
				if c := call[Connected](t, p, "connect", Connect{Addr: started.Addr, AtOnce: 20, Deadline: 20 * time.Second}); c.Ready != clients {
					t.Fatalf("%+v", c)
				}
			}
			connect(first)
			if err := first.Call("begin", nil, nil); err != nil {
				t.Fatal(err)
			}
			const rate, count = 2000, 2000
			if err := server.Call("publish", target.Plan{Schedule: schedule.Constant(rate), Start: time.Now().UnixMicro(), Count: count}, nil); err != nil {
				t.Fatal(err)
			}
			connect(second)
			await(t, "everything published", func() bool { return call[target.Stats](t, server, "stats", nil).Published == count })
			stats := call[target.Stats](t, server, "halt", nil)
			if stats.Published != count || stats.LateMax <= 0 || stats.LateP99 > stats.LateMax || stats.Counters[target.Records] < count {
				t.Errorf("%+v", stats)
			}
			var r Report
			for i, p := range []*proc.Proc{first, second} {
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("swarm %d: %+v; publisher: %+v", i+1, r, stats)
					}
				})
				await(t, "everybody has everything", func() bool {
					r = call[Report](t, p, "report", Have{Published: stats.Published})
					return r.Behind == 0
				})
				if r.Gaps+r.GapNotices+r.Again+r.Malformed+r.Closed != 0 {
					t.Errorf("%+v", r)
				}
			}
			if r := call[Report](t, first, "report", Have{Published: stats.Published + 1}); r.Behind == 0 {
				t.Error("nobody lacks what was not published")
			}
			r = call[Report](t, first, "report", Have{})
			hist, err := Decode(r.Histogram)
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(clients * 7 * count / topics); r.Updates != want || hist.TotalCount() != r.Messages || r.Messages == 0 {
				t.Errorf("%d updates, %d messages, %d ages; want %d updates", r.Updates, r.Messages, hist.TotalCount(), want)
			}
			if p50 := hist.ValueAtQuantile(50); p50 < 10 || p50 > 5_000_000 {
				t.Errorf("half are older than %d µs", p50)
			}
			for _, p := range []*proc.Proc{first, second, server} {
				if err := p.Stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, channel := range []string{"trades", "book"} {
		f(channel, false, false)
		f(channel, true, false)
	}
	f("trades", true, true)
}

// TestRunningMarket looks at a market that is not ours: nothing is published, and nobody can say who lacks what.
func TestRunningMarket(t *testing.T) {
	addrs := servertest.Start(t, func(c *all.Config) { c.Market.Kind, c.Market.Instruments = "sim", 6 })
	f := func(channel string, json, sse bool) {
		t.Run(fmt.Sprintf("%s,json=%t,sse=%t", channel, json, sse), func(t *testing.T) {
			t.Parallel()
			d := deployment.Deployment{Config: deployment.Config{WS: "ws://" + addrs.WS}}
			url := d.WS
			if sse {
				d.WS, d.SSE = "", "http://"+addrs.SSE
				url = d.SSE
			}
			var symbols []string
			await(t, "all instruments are alive", func() bool {
				symbols, _ = d.Instruments(t.Context(), 100) // there may be none yet, which is an error
				return len(symbols) == 6
			})
			server := part(t, target.Name)
			started := call[target.Started](t, server, "start", target.Config{Kind: target.None, Subscribe: url, Symbols: symbols, Topics: len(symbols), Channel: channel, SSE: sse})
			p := part(t, Name)
			cfg := Config{Clients: 10, Channel: channel, JSON: json, SSE: sse, Topics: len(symbols), Symbols: symbols, Base: started.Base, Each: 3, Seed: 1}
			if err := p.Call("start", cfg, nil); err != nil {
				t.Fatal(err)
			}
			if c := call[Connected](t, p, "connect", Connect{Addr: started.Addr, Deadline: 20 * time.Second}); c.Ready != cfg.Clients {
				t.Fatalf("%+v", c)
			}
			if err := server.Call("publish", target.Plan{Schedule: schedule.Constant(100)}, nil); err != nil {
				t.Fatal(err)
			}
			if err := p.Call("begin", nil, nil); err != nil {
				t.Fatal(err)
			}
			var r Report
			await(t, "something has come", func() bool {
				r = call[Report](t, p, "report", Have{})
				return r.Messages > 200
			})
			if r.Gaps+r.GapNotices+r.Again+r.Malformed+r.Closed != 0 || r.Behind != 0 {
				t.Errorf("%+v", r)
			}
			if s := call[target.Stats](t, server, "halt", nil); s.Published != 0 || s.LateMax != 0 {
				t.Errorf("%+v", s)
			}
			for _, p := range []*proc.Proc{p, server} {
				if err := p.Stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	f("trades", true, false)
	f("book", false, false)
	f("trades", true, true)
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}
