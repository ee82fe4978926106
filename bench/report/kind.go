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
	Fault  bool // must be zero in any run that is to be believed
	Help   string
}

// Kinds are all measures, in the order in which they are shown.
var Kinds = []Kind{
	{"sent/s", "/s", Neither, false, "messages published per second"},
	{"offered/s", "/s", Neither, false, "deliveries per second that the schedule asks for"},
	{"delivered/s", "/s", Higher, false, "updates per second that clients got; a merged message counts as those it stands for"},
	{"messages/s", "/s", Neither, false, "messages per second that clients got"},
	{"p50", "ms", Lower, false, "latency from the intended send time to the client"},
	{"p90", "ms", Lower, false, "90 of 100 were at most so late"},
	{"p99", "ms", Lower, false, "99 of 100 were at most so late"},
	{"p99.9", "ms", Lower, false, "999 of 1,000 were at most so late"},
	{"p99.99", "ms", Lower, false, "9,999 of 10,000 were at most so late"},
	{"max", "ms", Lower, false, "the latest of all"},
	{"age_p50", "ms", Lower, false, "age of the data at receipt, from the event's own time"},
	{"age_p99", "ms", Lower, false, "99 of 100 were at most so old"},
	{"age_max", "ms", Lower, false, "the oldest of all"},
	{"ingest_p50", "ms", Lower, false, "from the intended send time to the stamp of ingest"},
	{"ingest_p99", "ms", Lower, false, "99 of 100 were stamped at most so late"},
	{"edge_p50", "ms", Lower, false, "from the stamp of ingest to the client"},
	{"edge_p99", "ms", Lower, false, "99 of 100 took at most so long"},
	{"normal_p99", "ms", Lower, false, "p99 of the undisturbed part of the run"},
	{"disturbed_p99", "ms", Lower, false, "p99 of the disturbed part of the run"},
	{"recovery", "s", Lower, false, "until all was as before the disturbance"},
	{"served", "", Higher, false, "clients that were served again"},
	{"connect/s", "/s", Higher, false, "clients per second that connected and had what they asked for"},
	{"failed_connects", "", Lower, false, "attempts to connect that failed, and were made again"},
	{"bytes", "B", Lower, false, "on the wire per delivery, framing included"},
	{"per_write", "", Neither, false, "messages in one write of the server's"},
	{"cpu", "µs", Lower, false, "of the server per delivery: CPU seconds per million deliveries"},
	{"busy", "%", Lower, false, "of one processor, of the server"},
	{"allocs", "", Lower, false, "heap allocations of the server's process per delivery"},
	{"switches", "", Lower, false, "context switches of the server per 1,000 deliveries"},
	{"rss", "MiB", Lower, false, "resident memory of the server at the end"},
	{"rss_growth", "MiB", Lower, false, "of the server, from the first quarter of the run to its end"},
	{"memory", "KiB", Lower, false, "resident memory of the server per connection, settled"},
	{"memory_freed", "KiB", Lower, false, "the same, when the runtime has given back what it kept to itself"},
	{"goroutines", "", Lower, false, "of the server, with all clients connected"},
	{"floor_cpu", "µs", Neither, false, "of the floor per delivery: a loop with one write per message and client"},
	{"floor/s", "/s", Neither, false, "deliveries per second of the floor"},
	{"ratio", "×", Lower, false, "the server's CPU per delivery over the floor's in the same run"},
	{"client_cpu", "µs", Neither, false, "of the clients per message"},
	{"client_busy", "%", Neither, false, "of one processor, of the busiest client process"},
	{"client_lag", "ms", Neither, false, "how long a client's thread waited for a processor at most, per turn of its loop, p99"},
	{"publisher_lag", "ms", Neither, false, "how late the publisher was, p99; it counts in the latencies too"},
	{"gaps", "", Lower, true, "messages that did not follow"},
	{"lost", "", Lower, true, "losses that the server told of"},
	{"mismatches", "", Lower, true, "books whose hash was not that of the server's"},
	{"missing", "", Lower, true, "clients that did not have everything in the end"},
	{"repeated", "", Lower, true, "messages that came twice"},
	{"malformed", "", Lower, true, "messages that could not be read"},
	{"closed", "", Lower, true, "connections that the server ended and should not have"},
	{"refused", "", Lower, true, "requests or subscriptions refused"},
	{"unverified", "", Lower, true, "requests whose signature was not good"},
	{"stale", "", Lower, true, "topics that were not live in the end"},
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
