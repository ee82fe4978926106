package report

import (
	"fmt"
	"strings"
)

// LoadGenerator is how those did who made the load, in one run.
type LoadGenerator struct {
	Busy         float64 // percent of one processor that the busiest client process used
	Threads      int     // processors that it can use: 1 when one thread does all
	Waited       float64 // percent of the time that its threads wanted a processor in which they had none
	Wait         float64 // ms: how long that was each time, on average; counts if P50 is known
	ClientLag    float64 // ms: client_lag
	PublisherLag float64 // ms: publisher_lag
	P50          float64 // ms, measured; 0 when there is none
	P99          float64
}

// The limits beyond which the load generator is said to have been the bottleneck.
const (
	busyLimit   = 80.0 // percent of what it can have
	waitedLimit = 50.0 // percent
	lagLimit    = 0.25 // of what is measured
)

// Bottleneck is a note for the report when the figures may be those of the load generator, rather than those of the server;
// empty when they are not.
func (l *LoadGenerator) Bottleneck() string {
	var why []string
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if most := 100 * float64(max(1, l.Threads)); l.Busy > busyLimit/100*most {
		add("it was busy %.0f %% of the time that it can have", 100*l.Busy/most)
	}
	switch {
	case l.Waited <= waitedLimit:
	case l.P50 == 0:
		add("its threads had no processor in %.0f %% of the time in which they wanted one", l.Waited)
	case l.Wait > lagLimit*l.P50: // threads that run for a moment alone wait longer than they run, and yet it is nothing
		add("its threads had no processor in %.0f %% of the time in which they wanted one, %.2f ms each time, of a p50 of %.2f measured", l.Waited, l.Wait, l.P50)
	}
	if l.P99 > 0 && l.ClientLag > lagLimit*l.P99 {
		add("its own wait for a processor has a p99 of %.2f ms, of %.2f measured", l.ClientLag, l.P99)
	}
	if l.P99 > 0 && l.PublisherLag > lagLimit*l.P99 {
		add("its publisher was late by %.2f ms at p99, of %.2f measured", l.PublisherLag, l.P99)
	}
	if len(why) == 0 {
		return ""
	}
	return "the client was the bottleneck: " + strings.Join(why, "; ")
}
