package clients

import (
	"fmt"
	"strings"
	"testing"
)

// TestFollower tries the check of what clients say on what it must not let pass.
func TestFollower(t *testing.T) {
	const snapshot = `snapshot 1 {"items":[{"sym":"A","ep":7,"seq":10},{"sym":"B","ep":7,"seq":0}]}`
	begun := []string{`hello - {"how":"snapshot"}`, snapshot}
	trade := func(sym string, ep, prev, seq int) string {
		return fmt.Sprintf(`trade %d {"sym":%q,"ep":%d,"prev":%d,"seq":%d,"price":"1","out":5}`, seq, sym, ep, prev, seq)
	}
	truth := &truth{trades: map[place]string{}}
	for seq := uint64(1); seq < 20; seq++ {
		for _, sym := range []string{"A", "B"} {
			truth.trades[place{sym, 7, seq}] = fmt.Sprintf(`{"sym":%q,"ep":7,"prev":%d,"seq":%d,"price":"1"`, sym, seq-1, seq)
		}
	}
	f := func(want string, events ...string) {
		t.Helper()
		follower := &follower{truth: truth, at: map[string]place{}}
		var lines []line
		for _, e := range events {
			var l line
			l.Event, l.Data, _ = strings.Cut(e, " ")
			l.ID, l.Data, _ = strings.Cut(l.Data, " ")
			l.ID = strings.Trim(l.ID, "-")
			follower.take(&l)
			lines = append(lines, l)
		}
		follower.compare(lines)
		if got := strings.Join(follower.faults, "; "); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", events, got, want)
		}
	}
	with := func(events ...string) []string { return append(begun[:2:2], events...) }
	f("", with(trade("A", 7, 10, 11), trade("B", 7, 0, 1), `hello 11 {"how":"replay"}`, `status - {"sym":"A"}`, trade("A", 7, 11, 12))...)
	f("", append([]string{`hello - {"how":"snapshot"}`}, begun...)...) // cut off before the snapshot
	f("the first event is trade", trade("A", 7, 10, 11))
	f("is followed by", with(trade("A", 7, 11, 12))...)                        // a gap
	f("is followed by", with(trade("A", 7, 10, 11), trade("A", 7, 10, 11))...) // a repetition
	f("is followed by", with(trade("A", 8, 10, 11))...)                        // another numbering
	f("without a snapshot", `hello - {"how":"snapshot"}`, trade("A", 7, 10, 11))
	f("without an id", with(`trade - {"sym":"A","ep":7,"prev":10,"seq":11,"price":"1"}`)...)
	f("hello says snapshot to a client that has an id", with(`hello - {"how":"snapshot"}`)...)
	f("a second snapshot", with(snapshot)...)
	f("reset", with(`reset - {"why":"log"}`)...)
	f("gap", with(`gap 11 {"sym":"A","ep":7,"prev":10,"seq":11}`)...)
	f("trade", with(`trade 11 {"sym":"A","ep`)...)
	f("on the WebSocket it was", with(`trade 11 {"sym":"A","ep":7,"prev":10,"seq":11,"price":"2"}`)...)
}
