package report_test

import (
	"strings"
	"testing"

	"github.com/tickwire/tickwire/bench/report"
)

func TestBottleneck(t *testing.T) {
	f := func(l report.LoadGenerator, want ...string) {
		t.Helper()
		note := l.Bottleneck()
		if len(want) == 0 && note != "" || len(want) > 0 && !strings.HasPrefix(note, "the client was the bottleneck: ") {
			t.Errorf("%+v: %q", l, note)
		}
		for _, w := range want {
			if !strings.Contains(note, w) {
				t.Errorf("%+v: %q says nothing of %q", l, note, w)
			}
		}
		if n := strings.Count(note, "; ") + 1; len(want) > 0 && n != len(want) {
			t.Errorf("%+v: %d reasons in %q", l, n, note)
		}
	}
	f(report.LoadGenerator{})
	f(report.LoadGenerator{Busy: 79, Threads: 1, Waited: 49, ClientLag: 0.9, PublisherLag: 1, P99: 4})
	f(report.LoadGenerator{Busy: 81, Threads: 1}, "81 %")
	f(report.LoadGenerator{Busy: 81}, "81 %")
	f(report.LoadGenerator{Busy: 150, Threads: 2})
	f(report.LoadGenerator{Busy: 170, Threads: 2}, "85 %")
	f(report.LoadGenerator{Waited: 51}, "51 %")
	f(report.LoadGenerator{Waited: 90, Wait: 0.2, P50: 1})
	f(report.LoadGenerator{Waited: 40, Wait: 5, P50: 1})
	f(report.LoadGenerator{Waited: 90, Wait: 0.3, P50: 1}, "0.30 ms each time, of a p50 of 1.00")
	f(report.LoadGenerator{ClientLag: 1.1, P99: 4}, "1.10 ms, of 4.00")
	f(report.LoadGenerator{PublisherLag: 1.2, P99: 4}, "1.20 ms at p99, of 4.00")
	f(report.LoadGenerator{ClientLag: 1, PublisherLag: 1}) // nothing measured to compare with
	f(report.LoadGenerator{Busy: 200, Threads: 2, Waited: 90, ClientLag: 3, PublisherLag: 3, P99: 4}, "100 %", "90 %", "3.00 ms, of", "late by 3.00 ms")
}
