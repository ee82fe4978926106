package schedule_test

import (
	"math"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/schedule"
)

func near(a, b time.Duration) bool { return max(a-b, b-a) <= 2*time.Nanosecond }

func TestDue(t *testing.T) {
	f := func(s schedule.Schedule, n float64, want time.Duration) {
		t.Helper()
		if got := s.Due(n); !near(got, want) {
			t.Errorf("%v: message %v is due after %v, want %v", s, n, got, want)
		}
	}
	held := schedule.Constant(1000)
	f(held, 0, 0)
	f(held, 1, time.Millisecond)
	f(held, 3_600_000, time.Hour)
	stages, err := schedule.Parse("100x2s, 1000×1s,10x500ms")
	if err != nil {
		t.Fatal(err)
	}
	f(stages, 199, 1990*time.Millisecond)
	f(stages, 200, 2*time.Second)
	f(stages, 201, 2*time.Second+time.Millisecond)
	f(stages, 1200, 3*time.Second)
	f(stages, 1205, 3500*time.Millisecond)
	f(stages, 1215, 4500*time.Millisecond) // the last rate is held
	if d := stages.Duration(); d != 3500*time.Millisecond {
		t.Errorf("%v take %v", stages, d)
	}
	ramp := schedule.Constant(1000).Ramp(2 * time.Second) // 1,100 messages: 100 t + 225 t²
	f(ramp, 0, 0)
	f(ramp, 100+225, time.Second)
	f(ramp, 1100, 2*time.Second)
	f(ramp, 1101, 2*time.Second+time.Millisecond)
	f(schedule.Schedule{{From: 0, To: 100, For: 2 * time.Second}}, 25, time.Second)
	f(schedule.Schedule{{From: 100, To: 0, For: 2 * time.Second}, {From: 1, To: 1}}, 75, time.Second)
	if s := schedule.Constant(5).Ramp(0); len(s) != 1 {
		t.Errorf("no ramp is %v", s)
	}
}

// TestDueFollowsRate compares the times with the rates in small steps.
func TestDueFollowsRate(t *testing.T) {
	s := schedule.Schedule{{From: 500, To: 500, For: time.Second}, {From: 0, To: 4000, For: time.Second}, {From: 4000, To: 100, For: time.Second}}.Ramp(time.Second)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	const step = time.Millisecond
	for at := time.Duration(0); at < 5*time.Second; at += step {
		sum += s.At(at+step/2) / 1000
		if due := s.Due(sum); math.Abs(float64(due-at-step)) > float64(2*time.Millisecond) {
			t.Fatalf("%v messages fall due until %v, and the rates say %v", sum, due, at+step)
		}
	}
	if n := s.Count(); math.Abs(n-(275+500+2000+2050)) > 1e-6 {
		t.Errorf("%v messages", n)
	}
}

func TestParse(t *testing.T) {
	s, err := schedule.Parse("2000x5s,10000×500ms")
	if err != nil || len(s) != 2 || s[0] != (schedule.Stage{From: 2000, To: 2000, For: 5 * time.Second}) || s[1].For != 500*time.Millisecond {
		t.Errorf("%v, %v", s, err)
	}
	if text := s.Ramp(time.Second).String(); text != "200-2000x1s,2000x5s,10000x500ms" {
		t.Error(text)
	}
	for _, text := range []string{"", "5s", "x5s", "2000x", "2000x0s", "0x5s", "-1x5s", "NaNx5s", "Infx5s", "1x5", "1x1s,", "1x-1s"} {
		if s, err := schedule.Parse(text); err == nil {
			t.Errorf("%q is %v", text, s)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, s := range []schedule.Schedule{
		nil, {{}}, {{From: -1, To: 5, For: 1}}, {{From: 5, To: 5, For: -1}}, {{From: 5, To: 0, For: time.Second}}, {{From: math.NaN(), To: 1}}, {{From: math.Inf(1), To: 1}},
	} {
		if s.Validate() == nil {
			t.Errorf("%v is said to be good", s)
		}
	}
	if err := schedule.Constant(1).Ramp(time.Second).Validate(); err != nil {
		t.Error(err)
	}
}
