package report

import (
	"math"
	"slices"
)

// Band is how far the median of another invocation may be from this one's, with a probability of 95 %, when nothing has
// changed: by a factor, or within an amount in the measure's unit, whichever is more. The zero Band is not known.
type Band struct {
	Factor float64 // 1.2: between 1/1.2 and 1.2 times; 1 when the figures are not all positive
	Within float64
}

// Known tells whether there is a band: one run says nothing of the next.
func (b Band) Known() bool { return b.Factor > 0 }

// Holds tells whether the band explains the difference of two medians.
func (b Band) Holds(from, to float64) bool {
	if math.Abs(to-from) <= b.Within {
		return true
	}
	return from > 0 && to > 0 && max(to/from, from/to) <= b.Factor
}

// String is "±12 %" of the value, "×÷ 2.5" when it is more than half of it, or "±3 ms" when it is an amount; "-" when it is not known.
func (b Band) String(value float64, unit string) string {
	switch {
	case !b.Known():
		return "-"
	case b.Factor <= 1 || math.Abs(value)*(b.Factor-1) < b.Within:
		return "±" + quantity(b.Within, unit)
	case b.Factor > 100:
		return "×÷ > 100" // the runs are too few for what they differ by
	case b.Factor > 1.5:
		return "×÷ " + times(math.Ceil(b.Factor*10)/10)
	}
	return "±" + Number(math.Ceil((b.Factor-1)*100-1e-6)) + " %"
}

// Band is the measure's noise, from the spread of its runs.
//
// With n runs whose logarithms have the standard deviation s (n−1 in the divisor), the medians of two invocations of n runs
// each differ by less than
//
//	exp(t · s · √(2·c))
//
// with a probability of 95 %. t is Student's two-sided quantile for n−1 degrees of freedom, for s is only known from the
// runs; c is the variance of a median of n normal values in units of one value's (0.449 for 3, 0.287 for 5, towards π/2n; H. A. David and
// H. N. Nagaraja, Order Statistics, 2003, section 4 and its tables). The logarithm is taken because what disturbs a run multiplies: latencies
// and times are skewed, their logarithms much less. Figures that are not all positive are taken as they are.
//
// The band is never less than the kind's Noise, as a machine that is shared changes from one invocation to the next, and never less
// than what the unit can tell apart. With one run there is none.
func (m *Measure) Band() Band {
	values, logs := m.scale(m.Runs)
	if len(values) < 2 {
		return Band{}
	}
	n := len(values)
	return m.band(logs, student(likely, float64(n-1))*math.Sqrt(2*medianVariance(n)*variance(values)), m.Runs)
}

// likely is the probability that a band is said to have.
const likely = 0.95

// joint is the noise between two measures of two reports, with probability p: the same formula with each one's own spread, and the degrees of
// freedom by Welch and Satterthwaite. A side with one run is taken to be as noisy as the other.
func joint(p float64, a, b *Measure) Band {
	all := slices.Concat(a.Runs, b.Runs)
	_, logs := a.scale(all)
	va, da := a.error(logs)
	vb, db := b.error(logs)
	var freedom float64
	switch {
	case da == 0 && db == 0:
		return Band{}
	case da == 0:
		va, freedom = vb*medianVariance(len(a.Runs))/medianVariance(len(b.Runs)), db
	case db == 0:
		vb, freedom = va*medianVariance(len(b.Runs))/medianVariance(len(a.Runs)), da
	default:
		freedom = min(da, db)
		if sum := va*va/da + vb*vb/db; sum > 0 {
			freedom = (va + vb) * (va + vb) / sum
		}
	}
	return a.band(logs, student(p, freedom)*math.Sqrt(va+vb), all)
}

// error is the variance of the measure's median, and its degrees of freedom.
func (m *Measure) error(logs bool) (v, freedom float64) {
	values := m.Runs
	if logs {
		values, _ = m.scale(values)
	}
	if len(values) < 2 {
		return 0, 0
	}
	return medianVariance(len(values)) * variance(values), float64(len(values) - 1)
}

// scale takes logarithms where it can.
func (m *Measure) scale(runs []float64) (values []float64, logs bool) {
	for _, v := range runs {
		if v <= 0 {
			return runs, false
		}
	}
	for _, v := range runs {
		values = append(values, math.Log(v))
	}
	return values, true
}

// least is what units can't tell apart: the clients' clock and the publisher's timer, pages, the kernel's accounting.
var least = map[string]float64{"ms": 0.05, "s": 0.05, "µs": 0.01, "%": 1, "MiB": 1, "KiB": 0.1, "B": 1}

func (m *Measure) band(logs bool, width float64, runs []float64) Band {
	noise := 0.0
	if k := KindOf(m.Name); k != nil {
		noise = k.Noise
	}
	if logs {
		return Band{Factor: max(math.Exp(width), 1+noise), Within: least[m.Unit]}
	}
	largest := 0.0
	for _, v := range runs {
		largest = max(largest, math.Abs(v))
	}
	return Band{Factor: 1, Within: max(width, noise*largest, least[m.Unit])}
}

func variance(values []float64) float64 {
	mean, sum := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	return sum / float64(len(values)-1)
}

// medianVariance is that of the median of n normal values, where one value's is 1.
func medianVariance(n int) float64 {
	exact := []float64{1, 0.5, 0.4487, 0.2982, 0.2868, 0.2147, 0.2104, 0.1682, 0.1661, 0.1383}
	if n <= len(exact) {
		return exact[n-1]
	}
	return math.Pi / 2 / float64(n) // a little more than it is
}
