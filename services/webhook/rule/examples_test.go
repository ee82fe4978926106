package rule_test

import (
	"bytes"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files and the examples in docs/PROTOCOL.md")

// story is what happens to rules, step by step, as people may read it.
type story struct {
	*bench
	text  bytes.Buffer
	specs map[int64]rule.Spec
	was   map[int64]rule.State
}

// tell begins with an instrument that has traded at 100.
func tell(t *testing.T, rules ...string) *story {
	s := &story{bench: newBench(t), specs: map[int64]rule.Spec{}, was: map[int64]rule.State{}}
	s.define(1)
	s.trade(1, 10_000, 1000)
	s.run()
	for i, text := range rules {
		id := int64(i + 1)
		s.specs[id] = spec(t, text)
		fmt.Fprintf(&s.text, "rule %d  %s\n", id, s.specs[id].AppendJSON(nil, scales))
		s.rule(id, text)
	}
	fmt.Fprintf(&s.text, "\n%s  the last trade was at 100\n", clockText(s.p.Clock()))
	return s
}

func clockText(t market.Time) string { return t.Std().Format(time.TimeOnly) }

// then tells a step: what the record was, and what became of the rules.
func (s *story) then(after time.Duration, what string, record func()) {
	s.pass(after)
	record()
	out := s.run()
	fmt.Fprintf(&s.text, "%s  %s\n", clockText(s.p.Clock()), what)
	fired := map[int64]bool{}
	for _, f := range out.Fires {
		scale := s.specs[f.Rule].Scale(scales)
		prev := "null"
		if f.HasPrev {
			prev = rule.Format(f.Prev, scale)
		}
		fmt.Fprintf(&s.text, "          rule %d fires: value %s, prev %s, arm_seq %d", f.Rule, rule.Format(f.Value, scale), prev, f.ArmSeq)
		if f.AfterGap {
			s.text.WriteString(", after_gap")
		}
		s.text.WriteByte('\n')
		fired[f.Rule] = true
	}
	for _, c := range out.Changes {
		was := s.was[c.Rule]
		switch {
		case c.Ended != rule.NotEnded && c.Ended != rule.Fired:
			fmt.Fprintf(&s.text, "          rule %d ends: %v\n", c.Rule, c.Ended)
		case fired[c.Rule]:
		case c.State.Pending && was.Pending:
			fmt.Fprintf(&s.text, "          rule %d waits anew\n", c.Rule)
		case c.State.Pending:
			fmt.Fprintf(&s.text, "          rule %d waits\n", c.Rule)
		case was.Pending && !c.State.Disarmed:
			fmt.Fprintf(&s.text, "          rule %d waits no longer\n", c.Rule)
		case c.State.Disarmed:
			fmt.Fprintf(&s.text, "          rule %d loses the crossing\n", c.Rule)
		default:
			fmt.Fprintf(&s.text, "          rule %d is armed again\n", c.Rule)
		}
		s.was[c.Rule] = c.State
	}
}

func (s *story) trades(after time.Duration, price market.Price) {
	s.then(after, "trade at "+rule.Format(int64(price), 2), func() { s.trade(1, price, 1000) })
}

func (s *story) beats(after time.Duration) { s.then(after, "heartbeat", s.beat) }

// TestExamples tells the stories of docs/PROTOCOL.md.
func TestExamples(t *testing.T) {
	got := map[string][]byte{}
	s := tell(t,
		`{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","hysteresis":"1","cooldown":"1m"}`,
		`{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","hysteresis":"1","cooldown":"1m"}`)
	s.trades(time.Second, 10_250)
	s.trades(time.Second, 10_000)
	s.trades(time.Second, 9_999)
	s.trades(time.Second, 10_100)
	s.beats(58 * time.Second)
	s.trades(time.Second, 9_950)
	s.trades(time.Second, 10_150)
	got["armed.txt"] = s.text.Bytes()

	s = tell(t,
		`{"series":"last","op":"crosses_below","limit":"99","hold_for":"10s"}`,
		`{"series":"last","op":"at_or_below","limit":"99","expires_at":"2026-03-02T12:00:30Z","hold_for":"25s"}`)
	s.trades(time.Second, 9_890)
	s.trades(9*time.Second, 9_900)
	s.beats(time.Second)
	s.trades(time.Second, 9_901)
	s.trades(time.Second, 9_850)
	s.beats(17 * time.Second)
	got["hold.txt"] = s.text.Bytes()

	s = tell(t,
		`{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","on_gap":"fire"}`,
		`{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","on_gap":"reset"}`,
		`{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","on_gap":"reset"}`)
	s.then(time.Second, "trades are missing", func() { s.tradeGap(1) })
	s.trades(time.Second, 10_200)
	s.trades(time.Second, 10_000)
	s.trades(time.Second, 10_200)
	got["gap.txt"] = s.text.Bytes()

	s = tell(t,
		`{"series":"volume","window":"1m","op":"at_or_above","limit":"2","mode":"recurring"}`,
		`{"series":"change_pct","window":"2m","op":"at_or_below","limit":"-1.5","mode":"recurring"}`)
	s.trades(70*time.Second, 9_950)
	s.trades(20*time.Second, 9_900)
	s.trades(30*time.Second, 9_800)
	s.beats(time.Minute)
	got["windows.txt"] = s.text.Bytes()
	testkit.Examples{Doc: "../../../docs/PROTOCOL.md", Kind: "rule", Rewrite: *rewrite}.Check(t, got)
}
