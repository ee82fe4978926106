package report

// Better says which way a measure is good.
type Better string

// The ways.
const (
	Lower   Better = "lower"
	Higher  Better = "higher"
	Neither Better = ""
)

// Kind is what a measure means.
type Kind struct {
	Name   string
	Unit   string
	Better Better
	Fault  bool    // must be zero in any run that is to be believed
	Noise  float64 // the least that another run may differ by: 0.05 is 5 %, see Measure.Band
	Help   string
}

// A shared machine drifts between one run of this program and the next, by more than the runs within it tell.
const (
	steady  = 0.02 // sizes and counts
	rates   = 0.05
	memory  = 0.10
	times   = 0.15 // of the processor
	latency = 0.25
	tails   = 0.50 // latencies of a few messages
)

// Kinds are all measures, in the order in which they are shown.
var Kinds = []Kind{
	{"sent/s", "/s", Neither, false, rates, "messages published per second"},
	{"offered/s", "/s", Neither, false, steady, "deliveries per second that the schedule asks for"},
	{"delivered/s", "/s", Higher, false, rates, "updates per second that clients got; a merged message counts as those it stands for"},
	{"messages/s", "/s", Neither, false, rates, "messages per second that clients got"},
	{"p50", "ms", Lower, false, latency, "latency from the intended send time to the client"},
	{"p90", "ms", Lower, false, latency, "90 of 100 were at most so late"},
	{"p99", "ms", Lower, false, latency, "99 of 100 were at most so late"},
	{"p99.9", "ms", Lower, false, tails, "999 of 1,000 were at most so late"},
	{"p99.99", "ms", Lower, false, tails, "9,999 of 10,000 were at most so late"},
	{"max", "ms", Lower, false, tails, "the latest of all"},
	{"age_p50", "ms", Lower, false, latency, "age of the data at receipt, from the event's own time"},
	{"age_p99", "ms", Lower, false, latency, "99 of 100 were at most so old"},
	{"age_max", "ms", Lower, false, tails, "the oldest of all"},
	{"ingest_p50", "ms", Lower, false, latency, "from the intended send time to the stamp of ingest"},
	{"ingest_p99", "ms", Lower, false, latency, "99 of 100 were stamped at most so late"},
	{"edge_p50", "ms", Lower, false, latency, "from the stamp of ingest to the client"},
	{"edge_p99", "ms", Lower, false, latency, "99 of 100 took at most so long"},
	{"normal_p99", "ms", Lower, false, latency, "p99 of the undisturbed part of the run"},
	{"disturbed_p99", "ms", Lower, false, latency, "p99 of the disturbed part of the run"},
	{"recovery", "s", Lower, false, tails, "until all was as before the disturbance"},
	{"served", "", Higher, false, steady, "clients that were served again"},
	{"connect/s", "/s", Higher, false, latency, "clients per second that connected and had what they asked for"},
	{"failed_connects", "", Lower, false, tails, "attempts to connect that failed, and were made again"},
	{"bytes", "B", Lower, false, steady, "on the wire per delivery, framing included"},
	{"per_write", "", Neither, false, times, "messages in one write of the server's"},
	{"cpu", "µs", Lower, false, times, "of the server per delivery: CPU seconds per million deliveries"},
	{"busy", "%", Lower, false, times, "of one processor, of the server"},
	{"allocs", "", Lower, false, times, "heap allocations of the server's process per delivery"},
	{"switches", "", Lower, false, times, "context switches of the server per 1,000 deliveries"},
	{"rss", "MiB", Lower, false, memory, "resident memory of the server at the end"},
	{"rss_growth", "MiB", Lower, false, tails, "of the server, from the first quarter of the run to its end"},
	{"memory", "KiB", Lower, false, memory, "resident memory of the server per connection, settled"},
	{"memory_freed", "KiB", Lower, false, memory, "the same, when the runtime has given back what it kept to itself"},
	{"goroutines", "", Lower, false, steady, "of the server, with all clients connected"},
	{"floor_cpu", "µs", Neither, false, times, "of the floor per delivery: a loop with one write per message and client"},
	{"floor/s", "/s", Neither, false, rates, "deliveries per second of the floor"},
	{"ratio", "×", Lower, false, times, "the server's CPU per delivery over the floor's in the same run"},
	{"client_cpu", "µs", Neither, false, times, "of the clients per message"},
	{"client_busy", "%", Neither, false, times, "of one processor, of the busiest client process"},
	{"client_lag", "ms", Neither, false, tails, "how long a client's thread waited for a processor at most, per turn of its loop, p99"},
	{"publisher_lag", "ms", Neither, false, tails, "how late the publisher was, p99; it counts in the latencies too"},
	{"gaps", "", Lower, true, 0, "messages that did not follow"},
	{"lost", "", Lower, true, 0, "losses that the server told of"},
	{"mismatches", "", Lower, true, 0, "books whose hash was not that of the server's"},
	{"missing", "", Lower, true, 0, "clients that did not have everything in the end"},
	{"repeated", "", Lower, true, 0, "messages that came twice"},
	{"malformed", "", Lower, true, 0, "messages that could not be read"},
	{"closed", "", Lower, true, 0, "connections that the server ended and should not have"},
	{"refused", "", Lower, true, 0, "requests or subscriptions refused"},
	{"unverified", "", Lower, true, 0, "requests whose signature was not good"},
	{"stale", "", Lower, true, 0, "topics that were not live in the end"},
}

// KindOf finds a kind by its name; nil when there is none.
func KindOf(name string) *Kind {
	for i := range Kinds {
		if Kinds[i].Name == name {
			return &Kinds[i]
		}
	}
	return nil
}
