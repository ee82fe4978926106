package report_test

import (
	"math"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/tickwire/tickwire/bench/report"
)

func TestLatencies(t *testing.T) {
	h := hdrhistogram.New(1, 60_000_000, 3)
	for i := range 10_000 {
		if err := h.RecordValue(int64(i+1) * 100); err != nil { // 0.1 ms to 1,000 ms
			t.Fatal(err)
		}
	}
	run := map[string]float64{}
	report.Latencies(run, h)
	for name, want := range map[string]float64{"p50": 500, "p90": 900, "p99": 990, "p99.9": 999, "p99.99": 999.9, "max": 1000} {
		if got := run[name]; math.Abs(got-want) > want/500 {
			t.Errorf("%s is %v ms, want %v", name, got, want)
		}
	}
	new(report.Row).Record(run) // knows each of them
	points := report.Curve(h)
	for i, p := range points {
		if want := 10 * p.Percentile; math.Abs(p.Ms-want) > want/500+0.2 {
			t.Errorf("percentile %v is %v ms, want %v", p.Percentile, p.Ms, want)
		}
		if i > 0 && (p.Percentile <= points[i-1].Percentile || p.Ms < points[i-1].Ms) {
			t.Errorf("%v follows %v", p, points[i-1])
		}
	}
	if last := points[len(points)-1]; last.Percentile != 100 || points[len(points)-2].Percentile != 99.99 {
		t.Errorf("the curve ends with %v", points[len(points)-2:])
	}
}

func TestLatenciesOfNothing(t *testing.T) {
	h, run := hdrhistogram.New(1, 1000, 3), map[string]float64{}
	report.Latencies(run, h)
	if len(run) > 0 || report.Curve(h) != nil {
		t.Errorf("%v, %v", run, report.Curve(h))
	}
}
