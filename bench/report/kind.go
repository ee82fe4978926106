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
	steadyNoise  = 0.02 // sizes and counts
	rateNoise    = 0.05
	memoryNoise  = 0.10
	cpuNoise     = 0.15 // of the processor
	latencyNoise = 0.25
	tailNoise    = 0.50 // latencies of a few messages
)

// Kinds are all measures, in the order in which they are shown.
var Kinds = []Kind{
	{"sent/s", "/s", Neither, false, rateNoise, "messages published per second"},
	{"offered/s", "/s", Neither, false, steadyNoise, "deliveries per second that the schedule asks for"},
	{"delivered/s", "/s", Higher, false, rateNoise, "updates per second that clients got; a merged message counts as those it stands for"},
	{"messages/s", "/s", Neither, false, rateNoise, "messages per second that clients got"},
	{"floor/s", "/s", Neither, false, rateNoise, "deliveries per second of the floor"},
	{"p50", "ms", Lower, false, latencyNoise, "latency from the intended send time to the client"},
	{"p90", "ms", Lower, false, latencyNoise, "90 of 100 were at most so late"},
	{"p99", "ms", Lower, false, latencyNoise, "99 of 100 were at most so late"},
	{"p99.9", "ms", Lower, false, tailNoise, "999 of 1,000 were at most so late"},
	{"p99.99", "ms", Lower, false, tailNoise, "9,999 of 10,000 were at most so late"},
	{"max", "ms", Lower, false, tailNoise, "the latest of all"},
	{"age_p50", "ms", Lower, false, latencyNoise, "age of the data at receipt, from the event's own time"},
	{"age_p99", "ms", Lower, false, latencyNoise, "99 of 100 were at most so old"},
	{"age_max", "ms", Lower, false, tailNoise, "the oldest of all"},
	{"ingest_p50", "ms", Lower, false, latencyNoise, "from the intended send time to the broker's stamp of the raw record"},
	{"ingest_p99", "ms", Lower, false, latencyNoise, "99 of 100 were stamped at most so late"},
	{"edge_p50", "ms", Lower, false, latencyNoise, "from there to the client: through ingest and the edge"},
	{"edge_p99", "ms", Lower, false, latencyNoise, "99 of 100 took at most so long"},
	{"normal_p99", "ms", Lower, false, latencyNoise, "p99 of the undisturbed part of the run"},
	{"disturbed_p99", "ms", Lower, false, latencyNoise, "p99 of the disturbed part of the run"},
	{"slowdown", "×", Lower, false, tailNoise, "disturbed_p99 over normal_p99"},
	{"recovery", "s", Lower, false, tailNoise, "until all was as before the disturbance"},
	{"in_kernel", "B", Neither, false, latencyNoise, "in the client's kernel when it went on"},
	{"in_queue", "B", Lower, false, latencyNoise, "that the client had read and not handled, at most"},
	{"old_bytes", "B", Lower, false, latencyNoise, "handled after the pause that were older than 250 ms when it ended"},
	{"lag_notices", "", Neither, false, latencyNoise, "words of the server that a client is behind"},
	{"cut_off", "", Lower, false, tailNoise, "clients that stopped reading and that the server cut off"},
	{"unfairness", "×", Lower, false, tailNoise, "the p99 of the worst endpoint over that of the best, of those that are well"},
	{"served", "", Higher, false, steadyNoise, "clients that were served again"},
	{"connect/s", "/s", Higher, false, latencyNoise, "clients per second that connected and had what they asked for"},
	{"failed_connects", "", Lower, false, tailNoise, "attempts to connect that failed, and were made again"},
	{"bytes", "B", Lower, false, steadyNoise, "on the wire per delivery, framing included"},
	{"per_write", "", Neither, false, cpuNoise, "messages in one write of the server's"},
	{"cpu", "µs", Lower, false, cpuNoise, "of the server per delivery: CPU seconds per million deliveries"},
	{"floor_cpu", "µs", Neither, false, cpuNoise, "of the floor per delivery: a loop with one write per message and client"},
	{"ratio", "×", Lower, false, cpuNoise, "the server's CPU per delivery over the floor's in the same run"},
	{"busy", "%", Lower, false, cpuNoise, "of one processor, of the server"},
	{"allocs", "", Lower, false, cpuNoise, "heap allocations of the server's process per delivery"},
	{"switches", "", Lower, false, cpuNoise, "context switches of the server per 1,000 deliveries"},
	{"rss", "MiB", Lower, false, memoryNoise, "resident memory of the server at the end"},
	{"rss_growth", "MiB", Lower, false, tailNoise, "of the server: in a soak, from the first quarter of the run to its end; else, while clients stood still"},
	{"memory", "KiB", Lower, false, memoryNoise, "resident memory of the server per connection, settled"},
	{"memory_freed", "KiB", Lower, false, memoryNoise, "the same, when the runtime has given back what it kept to itself"},
	{"goroutines", "", Lower, false, steadyNoise, "of the server, with all clients connected"},
	{"client_cpu", "µs", Neither, false, cpuNoise, "of the clients per message, or per delivery where they verify"},
	{"client_busy", "%", Neither, false, cpuNoise, "of one processor, of the busiest client process"},
	{"client_wait", "%", Neither, false, latencyNoise, "of the time in which the clients' threads wanted a processor, in which they had none; of the worst process"},
	{"client_lag", "ms", Neither, false, tailNoise, "how long a goroutine of the client process waited until it ran, p99"},
	{"publisher_lag", "ms", Neither, false, tailNoise, "how late the publisher was, p99; it counts in the latencies too"},
	{"per_raw", "", Neither, false, steadyNoise, "events that one raw record makes"},
	{"verified", "", Neither, false, rateNoise, "book messages whose hash was compared and was right"},
	{"again", "", Lower, false, tailNoise, "requests that came once more, as delivery at least once may"},
	{"gaps", "", Lower, true, 0, "messages that did not follow"},
	{"lost", "", Lower, true, 0, "losses that the server told of"},
	{"mismatches", "", Lower, true, 0, "books whose hash was not that of the server's"},
	{"missing", "", Lower, true, 0, "clients that did not have everything in the end; records and fires that did not come out"},
	{"repeated", "", Lower, true, 0, "messages that came twice"},
	{"malformed", "", Lower, true, 0, "messages that could not be read"},
	{"closed", "", Lower, true, 0, "connections that the server ended and should not have"},
	{"refused", "", Lower, true, 0, "requests or subscriptions refused"},
	{"unverified", "", Lower, true, 0, "requests whose signature was not good; book messages that had no hash"},
	{"broken_bounds", "", Lower, true, 0, "bounds of a flow window that were not kept: old bytes, age, queue, notices"},
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
