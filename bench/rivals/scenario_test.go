package rivals

import (
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/report"
	"github.com/tickwire/tickwire/bench/scenario"
	"github.com/tickwire/tickwire/bench/target"
)

// TestScenario has a scenario measure a server that is not ours, as the command does it.
func TestScenario(t *testing.T) {
	t.Parallel()
	b := newBroadcast(t)
	cfg := scenario.DefaultFanout()
	cfg.Topics, cfg.Each, cfg.Rate, cfg.Clients, cfg.Repeat = 5, 5, 500, []int{20}, 1
	cfg.Warmup, cfg.Duration = 50*time.Millisecond, 300*time.Millisecond
	cfg.Deployment.WS, cfg.Deployment.Rival.Protocol, cfg.Deployment.Rival.Publish = b.url("ws", "/sub"), target.WS, b.url("ws", "/pub")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := scenario.Fanout(t.Context(), cfg, report.NewRecorder(nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	if r.System.Name != target.WS || r.System.Protocol != "WebSocket, JSON" || len(r.Rows) != 1 {
		t.Errorf("%+v, %d rows", r.System, len(r.Rows))
	}
	got := map[string]float64{}
	for _, m := range r.Rows[0].Measures {
		got[m.Name] = m.Runs[0]
	}
	if got["delivered/s"] < 5000 || got["p50"] <= 0 || got["gaps"]+got["missing"]+got["malformed"] > 0 {
		t.Errorf("%v", got)
	}
}
