package rule_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

// traded is a bench whose instrument 1 last traded at 100.00.
func traded(t *testing.T) *bench {
	b := newBench(t)
	b.define(1)
	b.trade(1, 10_000, 1)
	b.fires()
	return b
}

func TestCrossing(t *testing.T) {
	b := traded(t)
	if v := b.rule(1, `{"series":"last","op":"crosses_above","limit":"101"}`); v.Value != 10_000 || !v.HasValue || v.Clock != epoch {
		t.Errorf("valid from %+v", v)
	}
	b.rule(2, `{"series":"last","op":"crosses_above","limit":"99"}`) // the price is beyond it already
	b.rule(3, `{"series":"last","op":"crosses_below","limit":"99","mode":"recurring"}`)
	b.trade(1, 10_099, 1)
	b.fires()
	b.trade(1, 10_100, 1) // reached
	f := b.fires(1)[0]
	want := rule.Fire{
		Rule: 1, ArmSeq: 1, Inst: 1, Scales: rule.Scales{Price: 2, Size: 3}, Value: 10_100, Prev: 10_099, HasPrev: true, Clock: epoch, Offset: 3,
		Seq: market.Sequence{Epoch: 1, Seq: 3}, Time: epoch,
	}
	if f != want {
		t.Errorf("fired %+v, want %+v", f, want)
	}
	if c := (rule.Change{Rule: 1, State: rule.State{ArmSeq: 1}, Ended: rule.Fired}); !slices.Equal(b.out.Changes, []rule.Change{c}) {
		t.Errorf("changes %+v", b.out.Changes)
	}
	b.trade(1, 5_000, 1) // over many levels at once
	b.fires(3)
	b.trade(1, 10_200, 1) // 1 has ended; 2 crosses now
	b.trade(1, 9_900, 1)
	if f := b.fires(2, 3); f[1].ArmSeq != 2 || f[1].Prev != 10_200 {
		t.Errorf("the second fire of 3: %+v", f[1])
	}
	if s := b.p.Stats(); s.Rules != 1 {
		t.Errorf("%d rules are left", s.Rules)
	}
}

func TestLevels(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"at_or_above","limit":"100"}`)
	b.rule(2, `{"series":"last","op":"at_or_below","limit":"100","mode":"recurring","hysteresis":"1"}`)
	b.beat() // no value of the series
	b.fires()
	b.trade(1, 10_000, 1)
	b.fires(1, 2)
	b.trade(1, 10_100, 1) // back, but not by more than the hysteresis
	b.trade(1, 9_900, 1)
	b.fires()
	b.trade(1, 10_101, 1)
	b.trade(1, 10_000, 1)
	b.fires(2)
}

func TestCooldownAndHold(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","cooldown":"1m"}`)
	b.rule(2, `{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","cooldown":"1m"}`)
	b.rule(3, `{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","hold_for":"10s"}`)
	b.rule(4, `{"series":"last","op":"crosses_above","limit":"101","hold_for":"10s","expires_at":"2026-03-02T12:00:25Z"}`)
	b.trade(1, 10_100, 1)
	b.fires(1, 2)
	b.pass(9 * time.Second)
	b.beat()
	b.fires()
	b.trade(1, 10_000, 1) // breaks what holds, arms what fired
	b.trade(1, 10_100, 1) // during the cooldown
	b.fires()
	b.pass(10 * time.Second)
	b.beat()
	f := b.fires(3, 4)
	if f[0].HasPrev || f[0].Value != 10_100 || f[0].Clock != epoch+market.Time(19*time.Second) {
		t.Errorf("fired by the clock: %+v", f[0])
	}
	b.pass(41 * time.Second)
	b.beat()
	b.fires(2) // still true; the crossing of 1 is lost
	b.trade(1, 10_000, 1)
	b.trade(1, 10_100, 1)
	b.fires(1)
}

func TestExpiry(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"at_or_above","limit":"1","expires_at":"2026-03-02T12:00:01Z"}`)
	b.pass(time.Second)
	b.trade(1, 10_000, 1) // would fire
	b.fires()
	if !slices.Equal(b.out.Changes, []rule.Change{{Rule: 1, Ended: rule.Expired}}) || b.p.Stats().Rules != 0 {
		t.Errorf("changes %+v", b.out.Changes)
	}
}

func TestBookSeries(t *testing.T) {
	b := newBench(t)
	b.define(1)
	b.snapshot(1, 3, levels(9_990, 9_980, 9_970), levels(10_010, 10_020, 10_030))
	b.run()
	b.rule(1, `{"series":"bid","op":"at_or_above","limit":"99.9"}`)
	b.rule(2, `{"series":"mid","op":"at_or_above","limit":"100.005"}`)
	b.rule(3, `{"series":"ask","op":"crosses_below","limit":"100.05"}`)
	b.rule(4, `{"series":"spread_bps","op":"at_or_below","limit":"19.9900"}`)
	b.beat()
	b.fires() // stale
	b.live(1)
	b.fires(1)
	b.update(1, levels(9_991), nil)
	b.fires(2, 4)
	b.stale(1)
	b.snapshot(1, 1, levels(9_000), levels(11_000))
	b.fires()
	b.live(1)
	b.update(1, nil, levels(10_005))
	b.fires(3)
}

func TestWindows(t *testing.T) {
	b := newBench(t)
	b.define(1)
	b.pass(time.Minute)
	b.trade(1, 10_000, 1_000)
	b.run()
	b.rule(1, `{"series":"change_pct","window":"2m","op":"at_or_above","limit":"10"}`)
	b.rule(2, `{"series":"volume","window":"2m","op":"at_or_above","limit":"3","mode":"recurring"}`)
	b.rule(3, `{"series":"from_high_pct","window":"2m","op":"at_or_below","limit":"-5","mode":"recurring"}`)
	b.rule(4, `{"series":"ma_diff","window":"1m","window2":"2m","op":"crosses_above","limit":"2.5","mode":"recurring"}`)
	b.rule(5, `{"series":"volume_ratio","window":"1m","window2":"2m","op":"at_or_above","limit":"1.3333"}`)
	b.pass(time.Minute)
	b.trade(1, 10_500, 2_000)
	b.fires(2, 4, 5) // volume 3 in 2 minutes; (2/1)/(3/2) = 1.3333
	b.trade(1, 9_975, 1)
	b.fires(3)
	b.trade(1, 10_500, 1)
	if f := b.fires(4); f[0].Value != 25_000 { // 105 - (100+105)/2 = 2.5
		t.Errorf("%+v", f[0])
	}
	b.pass(time.Minute) // change over 2 minutes: from the close of the first minute
	b.trade(1, 11_000, 1)
	if f := b.fires(1, 4); f[0].Value != 100_000 {
		t.Errorf("%+v", f[0])
	}
}

func TestGaps(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"crosses_above","limit":"101","mode":"recurring"}`)
	b.rule(2, `{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","on_gap":"reset"}`)
	b.rule(3, `{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","on_gap":"reset"}`)
	b.tradeGap(1)
	b.trade(1, 10_200, 1)
	f := b.fires(1, 3)
	if !f[0].AfterGap || !f[0].HasPrev || f[0].Prev != 10_000 || f[1].HasPrev || !f[1].AfterGap {
		t.Errorf("%+v", f)
	}
	if len(b.out.Gaps) != 1 || b.out.Gaps[0].Why != "venue" || b.out.Gaps[0].Book {
		t.Errorf("gaps %+v", b.out.Gaps)
	}
	b.trade(1, 10_000, 1)
	b.trade(1, 10_200, 1)
	if f := b.fires(1, 2, 3); f[0].AfterGap {
		t.Errorf("%+v", f)
	}
}

func TestLateAndOld(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"at_or_below","limit":"50"}`)
	b.tradeAt(1, 1, 1, epoch-1000)
	b.events = append(b.events, b.events[1]) // with an old offset
	b.fires()
	if s := b.p.Stats(); s.Late != 1 || s.Old != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDelisted(t *testing.T) {
	b := traded(t)
	b.rule(7, `{"series":"last","op":"at_or_below","limit":"50"}`)
	b.status(1, func(s *market.Status) { s.State = market.Delisted })
	b.fires()
	if !slices.Equal(b.out.Changes, []rule.Change{{Rule: 7, Ended: rule.Delisted}}) {
		t.Errorf("changes %+v", b.out.Changes)
	}
	if _, err := b.p.Add(8, 1, spec(t, `{"series":"last","op":"at_or_below","limit":"50"}`), rule.State{}); !errors.Is(err, rule.ErrDelisted) {
		t.Error(err)
	}
	if _, err := b.p.Add(8, 2, rule.Spec{}, rule.State{}); !errors.Is(err, rule.ErrInstrument) {
		t.Error(err)
	}
}

func TestRescaled(t *testing.T) {
	b := traded(t)
	b.rule(1, `{"series":"last","op":"crosses_above","limit":"101.5"}`)
	b.rule(2, `{"series":"last","op":"crosses_above","limit":"101.55"}`)
	b.status(1, func(s *market.Status) { s.Instrument.PriceScale, s.Epoch = 1, 2 })
	b.trade(1, 1_015, 1)
	f := b.fires(1)[0]
	if f.Prev != 1_000 || !f.HasPrev || !f.AfterGap {
		t.Errorf("%+v", f)
	}
	if c := b.out.Changes[0]; c.Rule != 2 || c.Ended != rule.Rescaled {
		t.Errorf("changes %+v", b.out.Changes)
	}
}

// TestRestart stops at every record, goes on from images, and wants the same.
func TestRestart(t *testing.T) {
	b := traded(t)
	texts := []string{
		`{"series":"last","op":"crosses_above","limit":"101","mode":"recurring","cooldown":"20s"}`,
		`{"series":"volume","window":"1m","op":"at_or_above","limit":"0.003","mode":"recurring"}`,
		`{"series":"last","op":"at_or_above","limit":"101","mode":"recurring","hold_for":"10s","on_gap":"reset"}`,
		`{"series":"bid","op":"crosses_above","limit":"99.5","mode":"recurring"}`,
	}
	script := func(b *bench) {
		for i := range 40 {
			b.pass(7 * time.Second)
			switch i % 8 {
			case 5:
				b.tradeGap(1)
			case 6:
				b.beat()
			case 0:
				b.snapshot(1, 2, levels(market.Price(9_900+i*5), 9_000), levels(11_000))
				b.live(1)
			case 7:
				b.stale(1)
			default:
				b.trade(1, market.Price(10_000+i*37%200), 1)
			}
		}
	}
	for i, text := range texts {
		b.rule(int64(i), text)
	}
	script(b)
	states := make([]rule.State, len(texts))
	var all, want rule.Output
	images := make(map[uint32][]byte)
	restart := func(at int64) *rule.Partition {
		p := rule.NewPartition()
		for _, image := range images {
			must(t, p.Restore(at, image))
		}
		for next := p.Offset() + 1; next <= at; next++ {
			must(t, p.Replay(&b.events[next]))
		}
		for i, text := range texts {
			_, err := p.Add(int64(i), 1, spec(t, text), states[i])
			must(t, err)
		}
		return p
	}
	for i := b.done; i < len(b.events); i++ {
		ev := &b.events[i]
		must(t, restart(ev.Offset-1).Apply(ev, &all))
		for _, c := range all.Changes {
			states[c.Rule] = c.State
		}
		all.Changes = nil
		must(t, b.p.Apply(ev, &want))
		b.p.Images(1, b.p.Clock()-market.Time(15*time.Second), func(inst uint32, image []byte) { images[inst] = slices.Clone(image) })
	}
	if !slices.Equal(all.Fires, want.Fires) || len(want.Fires) != 9 {
		t.Errorf("fired\n%+v, want\n%+v", all.Fires, want.Fires)
	}
}

func TestParse(t *testing.T) {
	good := `{"series":"volume_ratio","window":"90m","window2":"24h","op":"at_or_below","limit":"1.25","mode":"recurring","hysteresis":"0.5","cooldown":"5m","hold_for":"30s","expires_at":"2026-03-02T12:00:25Z","on_gap":"reset"}`
	s := spec(t, good)
	want := rule.Spec{
		Series: rule.VolumeRatio, Op: rule.AtOrBelow, W1: 90, W2: 1440, OnGap: rule.GapResets, Limit: 12_500, Hysteresis: 5_000,
		Cooldown: 5 * time.Minute, HoldFor: 30 * time.Second, Expires: epoch + market.Time(25*time.Second),
	}
	if s != want {
		t.Errorf("%+v, want %+v", s, want)
	}
	if got := string(s.AppendJSON(nil, scales)); spec(t, got) != s {
		t.Errorf("%s", got)
	}
	f := func(text, field string) {
		t.Helper()
		_, err := rule.Parse([]byte(text), scales)
		var fe *rule.FieldError
		if !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v, want %s", text, err, field)
		}
	}
	f(``, "rule")
	f(`[]`, "rule")
	f(`{"series":"last","op":"at_or_above","limit":"1"} 1`, "rule")
	f(`{"series":"last","op":"at_or_above","limit":"1"`, "rule")
	f(`{"op":"at_or_above","limit":"1"}`, "series")
	f(`{"series":"first","op":"at_or_above","limit":"1"}`, "series")
	f(`{"series":"last","limit":"1"}`, "op")
	f(`{"series":"last","op":"at_or_above"}`, "limit")
	f(`{"series":"last","op":"at_or_above","limit":1}`, "limit")
	f(`{"series":"last","op":"at_or_above","limit":"1.001"}`, "limit")
	f(`{"series":"last","op":"at_or_above","limit":"0"}`, "limit")
	f(`{"series":"from_high_pct","window":"1h","op":"at_or_below","limit":"5"}`, "limit")
	f(`{"series":"last","op":"at_or_above","limit":"1","limit":"2"}`, "limit")
	f(`{"series":"last","op":"at_or_above","limit":"1","Mode":"once"}`, "Mode")
	f(`{"series":"last","op":"at_or_above","limit":"1","mode":"twice"}`, "mode")
	f(`{"series":"last","op":"at_or_above","limit":"1","window":"1h"}`, "window")
	f(`{"series":"volume","op":"at_or_above","limit":"1"}`, "window")
	f(`{"series":"volume","op":"at_or_above","limit":"1","window":"90s"}`, "window")
	f(`{"series":"volume","op":"at_or_above","limit":"1","window":"25h"}`, "window")
	f(`{"series":"ma_diff","op":"at_or_above","limit":"1","window":"1h","window2":"60m"}`, "window2")
	f(`{"series":"last","op":"at_or_above","limit":"1","hysteresis":"-1"}`, "hysteresis")
	f(`{"series":"last","op":"at_or_above","limit":"1","cooldown":"-1s"}`, "cooldown")
	f(`{"series":"last","op":"at_or_above","limit":"1","hold_for":"soon"}`, "hold_for")
	f(`{"series":"last","op":"at_or_above","limit":"1","expires_at":"1960-01-01T00:00:00Z"}`, "expires_at")
	f(`{"series":"last","op":"at_or_above","limit":"1","on_gap":"x"}`, "on_gap")
}

func TestStateBytes(t *testing.T) {
	f := func(s rule.State) {
		t.Helper()
		b := s.Append(nil)
		if got, err := rule.DecodeState(b); err != nil || got != s || len(b) > 32 {
			t.Errorf("%+v became %+v, %v, %d bytes", s, got, err, len(b))
		}
	}
	f(rule.State{})
	f(rule.State{ArmSeq: 1<<32 - 1, Disarmed: true, Until: epoch})
	f(rule.State{ArmSeq: 3, Pending: true, Since: epoch, Until: epoch + 1})
	if s, err := rule.DecodeState(nil); err != nil || s != (rule.State{}) {
		t.Error(s, err)
	}
}
