package report

import "github.com/HdrHistogram/hdrhistogram-go"

// curve is which percentiles a curve has: ever closer to the end, where it is interesting.
var curve = []float64{
	0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.3, 99.5, 99.7, 99.8, 99.9, 99.93, 99.95, 99.97, 99.98, 99.99, 99.993, 99.995, 99.997, 99.999,
}

// Curve is a row's Latency, of a histogram in µs. Percentiles that fewer than one value decides are left out, but for the
// last one.
func Curve(h *hdrhistogram.Histogram) (all []Point) {
	n := float64(h.TotalCount())
	if n == 0 {
		return nil
	}
	for _, q := range curve {
		if (100-q)/100*n >= 1 {
			all = append(all, Point{Percentile: q, Ms: ms(h.ValueAtPercentile(q))})
		}
	}
	return append(all, Point{Percentile: 100, Ms: ms(h.Max())})
}

// Latencies adds p50 to p99.99 and max of a histogram in µs to a run's figures. Of nothing there are none.
func Latencies(run map[string]float64, h *hdrhistogram.Histogram) {
	if h.TotalCount() == 0 {
		return
	}
	for name, q := range map[string]float64{"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "p99.99": 99.99} {
		run[name] = ms(h.ValueAtPercentile(q))
	}
	run["max"] = ms(h.Max())
}

// ms is so many µs.
func ms(us int64) float64 { return float64(us) / 1000 }
