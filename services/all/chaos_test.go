package all_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/client"
	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/sim"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/venue/pump"
)

// The numbers of the long programme (make chaos) come by these variables.
const (
	killsEnv     = "TICKWIRE_CHAOS_KILLS"
	takeoversEnv = "TICKWIRE_CHAOS_TAKEOVERS"
)

func count(t *testing.T, env string, short int) int {
	t.Helper()
	v := os.Getenv(env)
	if v == "" {
		return short
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a number of times", env, v)
	}
	return n
}

const chaosPartitions = 2

// arena is a Kafka cluster with one md.raw, and the built program to attack.
type arena struct {
	program string
	brokers []string
}

func newArena(t *testing.T, brokers int, options testkit.KafkaOptions) (*arena, *testkit.KafkaCluster) {
	t.Helper()
	k := testkit.KafkaWith(t, brokers, options)
	program := filepath.Join(t.TempDir(), "tickwire")
	build := exec.Command("go", "build", "-o", program, "../cmd/tickwire")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return &arena{program: program, brokers: k.Addrs()}, k
}

// topics are those of one ingest; all read the same md.raw.
func topics(name string) stream.Topics {
	return stream.Topics{
		Raw: stream.RawTopic, Events: stream.EventsTopic + name, Snapshots: stream.SnapshotsTopic + name,
		Quarantine: stream.QuarantineTopic + name,
	}
}

// open makes the topics of a name and a connection that knows them.
func (a *arena) open(t *testing.T, name string, replicas int) *stream.Cluster {
	t.Helper()
	c, err := stream.Open(stream.Config{Brokers: a.brokers, Topics: topics(name)})
	must(t, err)
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := c.Check(ctx, stream.Plan(c.Topics(), stream.PlanOptions{Partitions: chaosPartitions, Replicas: replicas}), true)
	must(t, err)
	for _, topic := range report.Topics {
		if len(topic.Problems) > 0 {
			t.Fatalf("topic %s: %v", topic.Name, topic.Problems)
		}
	}
	return c
}

// ingest starts an ingest process for both partitions.
func (a *arena) ingest(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	names := topics(name)
	cmd := exec.Command(a.program, "ingest", "--kafka", a.brokers[0], "--partitions", "0,1", "--snapshot-interval", "1s",
		"--admin-addr", "", "--log-level", "error",
		"--events-topic", names.Events, "--snapshots-topic", names.Snapshots, "--quarantine-topic", names.Quarantine)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = testLog{t}
	must(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

// testLog passes a child's log on to the test's.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Logf("ingest: %s", b)
	}
	return len(b), nil
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
}

// feed writes a simulated market to md.raw for as long as ctx lasts, and returns how to wait for its end.
func feed(t *testing.T, c *stream.Cluster, ctx context.Context, rate int) func() {
	t.Helper()
	w, err := c.RawWriter(t.Context(), c.Topics().Raw, stream.RawWriterConfig{})
	must(t, err)
	src := pump.NewSim(sim.Config{
		Seed: 7, Instruments: 8, Rate: rate, Depth: 200, Start: market.FromTime(time.Now()), Session: fmt.Sprintf("chaos-%d", time.Now().UnixNano()),
	}, 0)
	done := make(chan error, 1)
	go func() {
		_, err := pump.Run(ctx, src, w, pump.Config{Speed: 1})
		if ctx.Err() != nil {
			err = nil
		}
		done <- err
	}()
	return func() {
		t.Helper()
		must(t, <-done)
		grace, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		must(t, w.Close(grace))
	}
}

// settle waits until both logs have everything, and compares them.
func settle(t *testing.T, disturbed, calm *eventLog) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must(t, disturbed.waitInput(ctx))
	must(t, calm.waitInput(ctx))
	disturbed.check(t)
	calm.check(t)
	disturbed.equal(t, calm)
	t.Logf("%d events, %d batches of fenced owners dropped", disturbed.count(), disturbed.reader.Dropped())
	if disturbed.count() == 0 {
		t.Error("no events at all")
	}
}

// TestKafkaChaosKill kills ingest with SIGKILL at random moments while the market goes on. Readers must see neither gap nor
// duplicate, and the events must be those of an undisturbed run over the same md.raw, byte for byte.
func TestKafkaChaosKill(t *testing.T) {
	a, _ := newArena(t, 1, testkit.KafkaOptions{})
	kills := count(t, killsEnv, 5)
	c := a.open(t, ".killed", 1)
	disturbed := readEvents(t, c)
	market, stop := context.WithCancel(t.Context())
	defer stop()
	fed := feed(t, c, market, 2000)
	random := rand.New(rand.NewPCG(uint64(kills), 3))
	for range kills {
		victim := a.ingest(t, ".killed")
		time.Sleep(time.Duration(200+random.IntN(2000)) * time.Millisecond) // any moment is the point: takeover or work
		kill(victim)
	}
	stop()
	fed()
	a.ingest(t, ".killed")
	calm := readEvents(t, a.open(t, ".calm", 1))
	a.ingest(t, ".calm")
	settle(t, disturbed, calm)
}

// TestKafkaChaosZombie pauses the owner, lets another one take over, and wakes the first up again: a zombie that believes the
// partition is its own. Every third time it sleeps until the broker has forgotten its producer id, so that the log alone
// fences it.
func TestKafkaChaosZombie(t *testing.T) {
	a, _ := newArena(t, 1, testkit.KafkaOptions{Config: map[string]string{
		"transactional.id.expiration.ms":                             "2000",
		"transaction.remove.expired.transaction.cleanup.interval.ms": "500",
		"producer.id.expiration.ms":                                  "2000",
		"producer.id.expiration.check.interval.ms":                   "500",
	}})
	takeovers := count(t, takeoversEnv, 3)
	c := a.open(t, ".zombie", 1)
	disturbed := readEvents(t, c)
	market, stop := context.WithCancel(t.Context())
	defer stop()
	fed := feed(t, c, market, 2000)
	owner := a.ingest(t, ".zombie")
	random := rand.New(rand.NewPCG(uint64(takeovers), 4))
	for i := range takeovers {
		time.Sleep(time.Duration(1000+random.IntN(1000)) * time.Millisecond) // the owner works
		must(t, owner.Process.Signal(syscall.SIGSTOP))
		zombie := owner
		owner = a.ingest(t, ".zombie")
		asleep := time.Duration(500+random.IntN(1500)) * time.Millisecond
		if i%3 == 2 {
			asleep = 6 * time.Second
		}
		time.Sleep(asleep)
		must(t, zombie.Process.Signal(syscall.SIGCONT))
		time.Sleep(500 * time.Millisecond) // it writes, or finds out
		kill(zombie)
	}
	// Whoever is alive now may have lost the partition to a zombie that took it back: a last one makes sure of an owner.
	kill(owner)
	stop()
	fed()
	a.ingest(t, ".zombie")
	calm := readEvents(t, a.open(t, ".calm", 1))
	a.ingest(t, ".calm")
	settle(t, disturbed, calm)
}

// TestKafkaChaosLeader kills the leader of a partition in a cluster of three: nothing is lost, and clients see stale and
// then live.
func TestKafkaChaosLeader(t *testing.T) {
	a, k := newArena(t, 3, testkit.KafkaOptions{})
	c := a.open(t, "", 3)
	s := start(t, k.Addrs())
	log := readEvents(t, c)
	market, stop := context.WithCancel(t.Context())
	defer stop()
	fed := feed(t, c, market, 500)

	states := make(chan client.State, 1024)
	var sym string
	syms := func() []string {
		list, err := client.Symbols(t.Context(), client.Config{URL: s.url}, 300*time.Millisecond)
		must(t, err)
		return list
	}
	if !waitFor(t, func() bool { list := syms(); return len(list) == 8 }) {
		t.Fatal("the market does not come up")
	}
	for _, name := range syms() { // one whose partition's leader will be killed
		if stream.PartitionOf([]byte(name), chaosPartitions) == 0 {
			sym = name
		}
	}
	if sym == "" {
		t.Fatal("no instrument in partition 0")
	}
	w, err := client.Dial(t.Context(), client.Config{URL: s.url, Handler: client.Handler{
		OnState: func(_ *client.Topic, st client.State) { states <- st },
	}})
	must(t, err)
	defer func() { _ = w.Close() }()
	b, err := w.Book(sym, client.BookView{})
	must(t, err)
	must(t, b.Wait(t.Context()))
	if !waitFor(t, func() bool { return b.State() == client.Live }) {
		t.Fatalf("the book is %v", b.State())
	}
	for len(states) > 0 {
		<-states
	}

	leader, err := c.Leader(t.Context(), c.Topics().Events, 0)
	must(t, err)
	k.Kill(k.Index(leader))
	wait(t, states, client.Stale)
	wait(t, states, client.Live)

	stop()
	fed()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, log.waitInput(ctx))
	log.check(t)
	if st := b.BookStats(); st.Gaps != 0 || st.Mismatches != 0 {
		t.Errorf("the client saw %d gaps and %d mismatches", st.Gaps, st.Mismatches)
	}
	_, end, err := c.Offsets(ctx, c.Topics().Raw, 0)
	must(t, err)
	t.Logf("%d raw records in partition 0, %d events in all", end, log.count())
}

func wait(t *testing.T, states <-chan client.State, want client.State) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case st := <-states:
			if st == want {
				return
			}
		case <-deadline:
			t.Fatalf("no %v within 30 s", want)
		}
	}
}
