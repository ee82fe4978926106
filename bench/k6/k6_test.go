// Package k6 tests the scripts for k6, without k6: it is no part of this project.
package k6

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/services/all"
)

// node finds Node with a WebSocket of its own, behind a flag or not.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if err := exec.Command(path, "--experimental-websocket", "-e", "WebSocket; [].toSorted").Run(); err != nil {
		t.Skip("node is older than 20.10")
	}
	return path
}

func TestFollow(t *testing.T) {
	if out, err := exec.Command(node(t), "--test", "follow.test.mjs").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestScript runs the script on a market, with what it needs of k6 replaced.
func TestScript(t *testing.T) {
	node := node(t)
	addrs := servertest.Start(t, func(c *all.Config) { c.Market.Kind, c.Market.Instruments, c.Market.Rate = "sim", 3, 500 })
	run := func(env ...string) (sums map[string]struct{ Count, Sum, Max float64 }, thresholds []string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), node, "--experimental-websocket", "--no-warnings", "stub.mjs")
		cmd.Env, cmd.Stderr = append(append(os.Environ(), "URL=ws://"+addrs.WS+"/v1/ws", "DURATION=2s", "RAMP=0.2s", "VUS=5"), env...), os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Sums       map[string]struct{ Count, Sum, Max float64 }
			Thresholds []string
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return got.Sums, got.Thresholds
	}
	for _, channel := range []string{"trades", "book"} {
		got, thresholds := run("CHANNEL="+channel, "SYMBOLS=BTC-USDT,ETH-USDT")
		for _, name := range thresholds {
			if _, ok := got[name]; !ok {
				t.Errorf("there is a threshold of %s, and no such metric", name)
			}
		}
		if got["tickwire_ready"].Sum != 5 || got["tickwire_deliveries"].Count < 20 || got["tickwire_age"].Count != got["tickwire_deliveries"].Count || got["tickwire_connecting"].Count != 5 {
			t.Errorf("%s: %+v", channel, got)
		}
		if max := got["tickwire_age"].Max; max < 0 || max > 10_000 {
			t.Errorf("%s: %v ms old", channel, max)
		}
		for _, fault := range []string{"gaps", "lost", "again", "refused", "closed"} {
			if n := got["tickwire_"+fault].Count; n > 0 {
				t.Errorf("%s: %v %s", channel, n, fault)
			}
		}
	}
	got, _ := run("SYMBOLS=BTC-USDT,NO-SUCH", "DURATION=1s")
	if got["tickwire_refused"].Count != 5 || got["tickwire_ready"].Count != 5 || got["tickwire_ready"].Sum != 0 {
		t.Errorf("an instrument that is not there: %+v", got)
	}
}
