package report

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		r := NewRecorder(&out, 100*time.Second)
		r.Phase("connect")
		time.Sleep(1500 * time.Millisecond)
		r.Sample(Sample{Clients: 1000, Delivered: math.NaN(), P50: math.NaN(), P99: math.NaN(), Max: math.NaN(), CPU: math.NaN()})
		r.Phase("run 1 of a name that is long")
		time.Sleep(65 * time.Second)
		r.Sample(Sample{Clients: 1000, Sent: 50, Delivered: 501_223.4, P50: 0.412, P99: 12.345, Max: 1234, Faults: 3, CPU: 121.4, RSS: 54.2})
		r.Phase("run 1 of a name that is long")
		first := r.Take()
		time.Sleep(40 * time.Second)
		r.Sample(Sample{Clients: 1000, P50: 1, P99: math.Inf(1), RSS: 54, CPU: 0})
		second := r.Take()
		want := `
 elapsed  left  phase               clients delivered/s  p50 ms  p99 ms  max ms faults CPU %    MiB
    0.0s 1m40s  connect
    1.5s 1m39s  connect                1000           -       -       -       -      0     -      -
    1.5s 1m39s  run 1 of a name tha…
    1m7s   34s  run 1 of a name tha…   1000     501,223   0.412    12.3   1,234      3   121     54
   1m47s     -  run 1 of a name tha…   1000           0       1       -       0      0     0     54
`
		if got := "\n" + out.String(); got != want {
			t.Errorf("%s", got)
		}
		if want := []Phase{{"connect", 0, 1.5}, {"run 1 of a name that is long", 1.5, 106.5}}; !slices.Equal(r.Phases(), want) {
			t.Errorf("%v", r.Phases())
		}
		f := func(in []Series, name string, at, values []float64) {
			t.Helper()
			i := slices.IndexFunc(in, func(s Series) bool { return s.Name == name })
			if i < 0 {
				if at != nil {
					t.Errorf("no series %s", name)
				}
				return
			}
			if !slices.Equal(in[i].At, at) || !slices.Equal(in[i].Values, values) {
				t.Errorf("%s: %v %v", name, in[i].At, in[i].Values)
			}
		}
		f(first, "delivered", []float64{66.5}, []float64{501_223.4})
		f(first, "memory", []float64{66.5}, []float64{54.2})
		f(first, "CPU", []float64{66.5}, []float64{121.4})
		f(second, "p50", []float64{106.5}, []float64{1})
		f(second, "CPU", []float64{106.5}, []float64{0})
		f(second, "p99", nil, nil)
	})
}

// A day of samples keeps its shape, its worst moment and its length.
func TestRecorderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(nil, 0)
		const day = 24 * 60 * 60
		for i := range day {
			time.Sleep(time.Second)
			s := Sample{Clients: 5, P99: 1, Delivered: 100, P50: math.NaN()}
			if i == 50_001 {
				s.P99 = 77
			}
			r.Sample(s)
		}
		for _, s := range r.Take() {
			if len(s.At) != len(s.Values) || len(s.At) > most || len(s.At) < most/2 || s.At[len(s.At)-1] != day {
				t.Fatalf("%s: %d samples, %d values, until %v", s.Name, len(s.At), len(s.Values), s.At[len(s.At)-1])
			}
			step := s.At[1] - s.At[0]
			for i := 1; i < len(s.At)-1; i++ {
				if s.At[i]-s.At[i-1] != step {
					t.Fatalf("%s: steps of %v and %v", s.Name, step, s.At[i]-s.At[i-1])
				}
			}
			if s.Name == "p99" && slices.Max(s.Values) != 77 || s.Name == "delivered" && (slices.Max(s.Values) != 100 || slices.Min(s.Values) != 100) {
				t.Errorf("%s: %v to %v", s.Name, slices.Min(s.Values), slices.Max(s.Values))
			}
		}
		if all := r.Take(); len(all) > 0 {
			t.Errorf("%v", all)
		}
	})
}
