// Package schedule says when each message of an open loop is meant to be sent: a rate, held, or ramped up to, or changed in
// stages. It sleeps until then, and records how late what comes is. The schedule is fixed before the first message, so that
// whoever sends late cannot hide it. The user may interrupt what it is about.
package schedule

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Stage is a rate for a while. The rate goes from From to To in a straight line; both are the same when it is held.
type Stage struct {
	From, To float64 // messages a second
	For      time.Duration
}

// Schedule is stages one after the other. The rate in the end of the last one is held from then on.
type Schedule []Stage

// Constant is a rate that is held for ever.
func Constant(rate float64) Schedule { return Schedule{{From: rate, To: rate}} }

// rampFrom is the share of the rate with which a ramp begins.
const rampFrom = 0.1

// Ramp puts a ramp before the schedule: from a tenth of its first rate up to that, over a while. For 0 there is none.
func (s Schedule) Ramp(over time.Duration) Schedule {
	if over <= 0 || len(s) == 0 {
		return s
	}
	return append(Schedule{{From: rampFrom * s[0].From, To: s[0].From, For: over}}, s...)
}

// Parse reads stages: RATExDURATION,…, such as 2000x5s,10000x5s. An × will do as well as an x.
func Parse(text string) (Schedule, error) {
	var s Schedule
	for part := range strings.SplitSeq(text, ",") {
		left, right, ok := strings.Cut(strings.ReplaceAll(strings.TrimSpace(part), "×", "x"), "x")
		rate, err := strconv.ParseFloat(left, 64)
		if !ok || err != nil || !(rate > 0) || math.IsInf(rate, 0) {
			return nil, fmt.Errorf("stage %q: it is RATExDURATION, with a rate above 0, such as 2000x5s", part)
		}
		d, err := time.ParseDuration(right)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("stage %q: the duration is one such as 500ms or 5s", part)
		}
		s = append(s, Stage{From: rate, To: rate, For: d})
	}
	return s, nil
}

// Validate says what is wrong.
func (s Schedule) Validate() error {
	if len(s) == 0 {
		return errors.New("no stages")
	}
	for i, st := range s {
		if !(st.From >= 0) || !(st.To >= 0) || st.From+st.To <= 0 || math.IsInf(st.From+st.To, 0) || st.For < 0 {
			return fmt.Errorf("stage %d, from %v to %v a second in %v, is none", i+1, st.From, st.To, st.For)
		}
	}
	if last := s[len(s)-1]; last.To <= 0 {
		return errors.New("the last stage ends with nothing a second")
	}
	return nil
}

// Duration is how long the stages take, in the end of which the rate does not change any more.
func (s Schedule) Duration() (d time.Duration) {
	for _, st := range s {
		d += st.For
	}
	return d
}

// Count is how many messages fall due in all stages.
func (s Schedule) Count() float64 {
	n := 0.0
	for _, st := range s {
		n += st.messages()
	}
	return n
}

func (st *Stage) messages() float64 { return (st.From + st.To) / 2 * st.For.Seconds() }

// Due is when message n, counted from 0, is meant to be sent, from the begin. A part of a message is due between its
// neighbours.
func (s Schedule) Due(n float64) time.Duration {
	var before time.Duration
	for i := range s {
		st := &s[i]
		if m := st.messages(); n >= m {
			n, before = n-m, before+st.For
			continue
		}
		// n = From*t + slope/2 * t², solved for t so that neither a small slope nor a From of 0 hurts.
		slope := (st.To - st.From) / st.For.Seconds()
		t := 2 * n / (st.From + math.Sqrt(max(0, st.From*st.From+2*slope*n)))
		if n == 0 {
			t = 0
		}
		return before + seconds(t)
	}
	return before + seconds(n/s[len(s)-1].To)
}

// At is the rate at a time.
func (s Schedule) At(t time.Duration) float64 {
	for i := range s {
		st := &s[i]
		if t < st.For {
			return st.From + (st.To-st.From)*float64(t)/float64(st.For)
		}
		t -= st.For
	}
	return s[len(s)-1].To
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

// String gives the stages as Parse reads them; a ramp as A-B.
func (s Schedule) String() string {
	parts := make([]string, 0, len(s))
	for _, st := range s {
		part := strconv.FormatFloat(st.From, 'f', -1, 64)
		if st.To != st.From {
			part += "-" + strconv.FormatFloat(st.To, 'f', -1, 64)
		}
		if st.For > 0 {
			part += "x" + st.For.String()
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}
