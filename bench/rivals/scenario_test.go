package rivals

import (
	"strings"
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
	cfg := fanout(t, b)
	r, err := scenario.Fanout(t.Context(), cfg, report.NewRecorder(nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	if r.System.Name != target.WS || r.System.Protocol != "WebSocket, JSON" || len(r.Rows) != 1 {
		t.Errorf("%+v, %d rows", r.System, len(r.Rows))
	}
	got := figures(r)
	if got["delivered/s"] < 5000 || got["p50"] <= 0 || got["gaps"]+got["missing"]+got["malformed"] > 0 {
		t.Errorf("%v", got)
	}
}

// fanout is a short one, of that server.
func fanout(t *testing.T, b *broadcast) scenario.FanoutConfig {
	t.Helper()
	cfg := scenario.DefaultFanout()
	cfg.Topics, cfg.Each, cfg.Rate, cfg.Clients, cfg.Repeat = 5, 5, 500, []int{20}, 1
	cfg.Warmup, cfg.Duration = 200*time.Millisecond, 300*time.Millisecond
	cfg.Deployment.WS, cfg.Deployment.Rival.Protocol, cfg.Deployment.Rival.Publish = b.url("ws", "/sub"), target.WS, b.url("ws", "/pub")
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func figures(r *report.Report) map[string]float64 {
	got := map[string]float64{}
	for _, m := range r.Rows[0].Measures {
		got[m.Name] = m.Runs[0]
	}
	return got
}

// TestScenarioFindsLosses has a server lose one message: in the warm-up, between it and the measurement, and measured. All its
// clients must be seen to lack it.
func TestScenarioFindsLosses(t *testing.T) {
	t.Parallel()
	for _, message := range []int{20, 110, 200} { // 100 are warm-up
		b := newBroadcast(t)
		b.lose = message
		r, err := scenario.Fanout(t.Context(), fanout(t, b), report.NewRecorder(nil, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := figures(r); got["gaps"] != 20 {
			t.Errorf("message %d is lost, and gaps are %v", message, got["gaps"])
		}
	}
}

// TestScenarioFindsNothing looks at a market that is dead, which is no good result.
func TestScenarioFindsNothing(t *testing.T) {
	t.Parallel()
	cfg := fanout(t, newBroadcast(t))
	cfg.Deployment.Rival.Publish = ""
	if _, err := scenario.Fanout(t.Context(), cfg, report.NewRecorder(nil, 0)); err == nil || !strings.Contains(err.Error(), "nothing has come from the market") {
		t.Error(err)
	}
}
