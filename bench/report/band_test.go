package report

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// invocation is n runs of something whose logarithm is normal.
func invocation(rnd *rand.Rand, n int, middle, sigma float64) *Measure {
	m := &Measure{Name: "gaps"} // a fault: no floor
	for range n {
		m.Runs = append(m.Runs, middle*math.Exp(sigma*rnd.NormFloat64()))
	}
	return m
}

func TestBandCovers(t *testing.T) {
	const trials = 20_000
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{2, 3, 4, 5, 7, 12} {
		for _, sigma := range []float64{0.01, 0.1, 0.5} {
			holds, together := 0, 0
			var widths, differences []float64
			for range trials {
				a, b := invocation(rnd, n, 40, sigma), invocation(rnd, n, 40, sigma)
				if a.Band().Holds(a.Value(), b.Value()) {
					holds++
				}
				if joint(likely, a, b).Holds(a.Value(), b.Value()) {
					together++
				}
				widths = append(widths, math.Log(a.Band().Factor))
				differences = append(differences, math.Abs(math.Log(a.Value()/b.Value())))
			}
			slices.Sort(widths)
			slices.Sort(differences)
			// The tables are rounded, and so is luck.
			if share := float64(holds) / trials; share < 0.945 {
				t.Errorf("%d runs with a spread of %v: the band holds in %.4f", n, sigma, share)
			}
			if share := float64(together) / trials; share < 0.945 {
				t.Errorf("%d runs with a spread of %v: the joint band holds in %.4f", n, sigma, share)
			}
			// Who knew the true spread would need the 95th difference; who has only few runs to judge by pays for that.
			need, wide := differences[trials*95/100], widths[trials/2]
			if limit := map[int]float64{2: 6, 3: 2.5, 4: 1.8, 5: 1.6, 7: 1.5, 12: 1.4}[n]; wide > limit*need {
				t.Errorf("%d runs with a spread of %v: half of the bands are wider than %.3f, %.3f would do", n, sigma, wide, need)
			}
		}
	}
}

// What is not normal, and what differs in noise or number of runs, must not fool the joint band either.
func TestJointBandCovers(t *testing.T) {
	const trials = 20_000
	rnd := rand.New(rand.NewPCG(3, 4))
	f := func(name string, least float64, make func() (a, b *Measure)) {
		t.Helper()
		holds := 0
		for range trials {
			a, b := make()
			if joint(likely, a, b).Holds(a.Value(), b.Value()) {
				holds++
			}
		}
		if share := float64(holds) / trials; share < least {
			t.Errorf("%s: it holds in %.4f", name, share)
		}
	}
	f("one is ten times as noisy", 0.945, func() (a, b *Measure) {
		return invocation(rnd, 5, 7, 0.02), invocation(rnd, 5, 7, 0.2)
	})
	f("3 and 7 runs", 0.945, func() (a, b *Measure) { return invocation(rnd, 3, 7, 0.1), invocation(rnd, 7, 7, 0.1) })
	f("one run and 5", 0.945, func() (a, b *Measure) { return invocation(rnd, 1, 7, 0.1), invocation(rnd, 5, 7, 0.1) })
	f("skewed", 0.945, func() (a, b *Measure) {
		a, b = &Measure{Name: "gaps"}, &Measure{Name: "gaps"}
		for range 5 {
			a.Runs, b.Runs = append(a.Runs, 1+rnd.ExpFloat64()), append(b.Runs, 1+rnd.ExpFloat64())
		}
		return a, b
	})
	f("around nothing", 0.945, func() (a, b *Measure) {
		a, b = &Measure{Name: "gaps"}, &Measure{Name: "gaps"}
		for range 5 {
			a.Runs, b.Runs = append(a.Runs, rnd.NormFloat64()), append(b.Runs, rnd.NormFloat64())
		}
		return a, b
	})
}

// A difference that is there must be seen.
func TestBandSees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	seen := 0
	for range 1000 {
		a, b := invocation(rnd, 5, 10, 0.05), invocation(rnd, 5, 13, 0.05)
		if !joint(likely, a, b).Holds(a.Value(), b.Value()) {
			seen++
		}
	}
	if seen < 950 {
		t.Errorf("a third more at a spread of 5 %% was seen in %d of 1000", seen)
	}
}

func TestBandFloors(t *testing.T) {
	f := func(name, unit string, runs []float64, want string) {
		t.Helper()
		m := Measure{Name: name, Unit: unit, Runs: runs}
		if got := m.Band().String(m.Value(), unit); got != want {
			t.Errorf("%s of %v: %s, want %s", name, runs, got, want)
		}
	}
	f("p99", "ms", []float64{5}, "-")
	f("p99", "ms", nil, "-")
	f("p99", "ms", []float64{5, 5, 5}, "±25 %")
	f("delivered/s", "/s", []float64{100, 100, 100}, "±5 %")
	f("delivered/s", "/s", []float64{100, 104, 108}, "±17 %") // exp(4.303 × 0.0385 × √(2×0.4487)) = 1.170
	f("p99", "ms", []float64{2, 10, 40}, "×÷ > 100")
	f("p99", "ms", []float64{2, 4, 8}, "×÷ 16.9")
	f("p50", "ms", []float64{0.02, 0.02, 0.02}, "±0.050 ms")
	f("rss_growth", "MiB", []float64{0, 0.1, 0}, "±1 MiB")
	f("rss_growth", "MiB", []float64{-2, 0, 4}, "±12.5 MiB") // 4.303 × 3.055 × √(2×0.4487)
	f("gaps", "", []float64{0, 0, 0}, "±0")
}
