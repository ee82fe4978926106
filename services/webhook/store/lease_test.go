package store_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/internal/testkit"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// holder is a call of Own.
type holder struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when Own has returned

	mu   sync.Mutex
	held map[int]int64
	most map[int]int64 // the greatest epoch of each
}

func hold(t *testing.T, s *store.Store, total int) *holder {
	ctx, cancel := context.WithCancel(t.Context())
	h := &holder{cancel: cancel, done: make(chan struct{}), held: map[int]int64{}, most: map[int]int64{}}
	go func() {
		defer close(h.done)
		err := s.Own(ctx, store.KindSlot, total, func(ctx context.Context, l store.Lease) error {
			h.mu.Lock()
			h.held[l.N] = l.Epoch
			h.most[l.N] = max(h.most[l.N], l.Epoch)
			h.mu.Unlock()
			<-ctx.Done()
			h.mu.Lock()
			delete(h.held, l.N)
			h.mu.Unlock()
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Own: %v", err)
		}
	}()
	t.Cleanup(h.end)
	return h
}

func (h *holder) end() {
	h.cancel()
	<-h.done
}

func (h *holder) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() error {
		if !is() {
			return errors.New(what)
		}
		return nil
	})
}

func TestLeasesAreShared(t *testing.T) {
	url := onPostgres(t)
	cfg := store.Config{URL: url, Ephemeral: true, LeaseTTL: 600 * time.Millisecond}
	a, b, c := open(t, cfg), open(t, cfg), open(t, cfg)
	ha := hold(t, a, 10)
	eventually(t, "one has all", func() bool { return ha.count() == 10 })
	hb := hold(t, b, 10)
	eventually(t, "two have five each", func() bool { return ha.count() == 5 && hb.count() == 5 })
	hc := hold(t, c, 10)
	eventually(t, "three have about as many", func() bool {
		x, y, z := ha.count(), hb.count(), hc.count()
		return x+y+z == 10 && min(x, y, z) == 3
	})
	ha.end()
	hb.end()
	eventually(t, "the last one has all", func() bool { return hc.count() == 10 })
	for n, epoch := range ha.most {
		if hc.most[n] <= epoch {
			t.Errorf("lease %d: epoch %d after %d", n, hc.most[n], epoch)
		}
	}
}

// TestLeaseNobodyHeard takes a lease in the name of a process that does not know of it, as a commit does whose answer was lost.
func TestLeaseNobodyHeard(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		h := hold(t, s, 2)
		eventually(t, "all leases", func() bool { return h.count() == 2 })
		must(t, s.RaiseEpoch(t.Context(), store.KindSlot, 0))
		eventually(t, "it is held again", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.held[0] == 3 && len(h.held) == 2
		})
	})
}

// TestRunEnds: an error of run ends Own, and no error gives the lease to anybody again.
func TestRunEnds(t *testing.T) {
	on(t, func(t *testing.T, open func() *store.Store) {
		s := open()
		broken := errors.New("broken")
		var mu sync.Mutex
		epochs := []int64{}
		err := s.Own(t.Context(), store.KindSlot, 1, func(_ context.Context, l store.Lease) error {
			mu.Lock()
			defer mu.Unlock()
			epochs = append(epochs, l.Epoch)
			if len(epochs) == 2 {
				return broken
			}
			return nil
		})
		wantErr(t, err, broken)
		if len(epochs) != 2 || epochs[1] != epochs[0]+1 {
			t.Errorf("epochs: %v", epochs)
		}
	})
}

func TestTellsOtherProcesses(t *testing.T) {
	url := onPostgres(t)
	a, b := open(t, store.Config{URL: url, Ephemeral: true}), open(t, store.Config{URL: url, Ephemeral: true})
	tn := tenant(t, a)
	eventually(t, "b hears of an endpoint", func() bool {
		e := endpoint(t, a, tn, nil) // until b listens
		select {
		case n := <-b.Queued():
			return n == e.Num
		case <-time.After(200 * time.Millisecond):
			return false
		}
	})
	list := []*store.Alert{{Sym: "BTC-USDT", Partition: 3, Rule: "{}"}}
	must(t, a.CreateAlerts(t.Context(), tn, list, nil))
	for _, s := range []*store.Store{a, b} {
		select {
		case n := <-s.Changed():
			if n != 3 {
				t.Errorf("partition %d", n)
			}
		case <-time.After(10 * time.Second):
			t.Error("nothing was told")
		}
	}
}

// order is what a child process is to do, and what it says.
type order struct {
	URL   string // of PostgreSQL; otherwise
	Dir   string // of SQLite
	Alert int64
	Pause string // "between": commits; "inside": it pauses itself in the middle of one
}

const orderEnv = "TICKWIRE_STORE_CHILD"

// TestChild is no test: it is the owner that other tests pause or kill. It fires an alert again and again, each fire's number being its
// offset, and says so when the commit is done.
func TestChild(t *testing.T) {
	text := os.Getenv(orderEnv)
	if text == "" {
		t.Skip("only as a child of other tests")
	}
	var o order
	must(t, json.Unmarshal([]byte(text), &o))
	s, err := store.Open(t.Context(), store.Config{URL: o.URL, Dir: o.Dir, Ephemeral: true, LeaseTTL: time.Second}, zap.NewNop())
	must(t, err)
	defer func() { _ = s.Close() }()
	var last store.Lease
	ctx, cancel := context.WithCancel(t.Context())
	_ = s.Own(ctx, store.KindPartition, 1, func(ctx context.Context, l store.Lease) error {
		last = l
		err := fireOn(ctx, s, l, o)
		fmt.Println("stopped", err) // ErrFenced, or PostgreSQL has ended the connection of a transaction that stood still
		cancel()
		return nil
	})
	cancel()
	// With the context of a zombie that does not know yet: fencing alone must keep it out.
	stale := store.Commit{Lease: last, LogID: "log", Offset: 1 << 40, Fires: []store.Event{{ID: "evt_zombie", Type: store.TypeAlertFired, Alert: o.Alert}}}
	fmt.Println("stale", errors.Is(s.Commit(t.Context(), &stale), store.ErrFenced))
}

func fireOn(ctx context.Context, s *store.Store, l store.Lease, o order) error {
	at, err := s.Checkpoint(context.WithoutCancel(ctx), 0)
	if err != nil {
		return err
	}
	for seq := at.Offset + 1; ; seq++ {
		if o.Pause == "inside" && seq == 10 {
			err := s.WithFence(context.WithoutCancel(ctx), l, func() {
				fmt.Println("pausing")
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
				time.Sleep(50 * time.Millisecond) // the signal is another thread's
			})
			if err != nil {
				return err
			}
		}
		e := store.Event{ID: store.AlertEventID(o.Alert, uint32(seq)), Type: store.TypeAlertFired, Alert: o.Alert, ArmSeq: uint32(seq), Body: []byte("{}")}
		c := store.Commit{
			Lease: l, LogID: "log", Offset: seq, Fires: []store.Event{e}, Evals: []store.EvalUpdate{{Alert: o.Alert, Eval: store.Eval{ArmSeq: uint32(seq)}}},
			Images: []store.Image{{Inst: 7, Data: fmt.Appendf(nil, "%d", seq)}},
		}
		if err := s.Commit(context.WithoutCancel(ctx), &c); err != nil {
			return err
		}
		fmt.Println("committed", seq)
	}
}

// child starts TestChild. Its lines come out of the channel, which is closed when it has ended.
func child(t *testing.T, o order) (*exec.Cmd, <-chan string) {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), orderEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := make(chan string, 1<<16)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(out)
		for in.Scan() {
			lines <- in.Text()
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range lines {
		}
	})
	return cmd, lines
}

func waitLine(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	for end := time.After(60 * time.Second); ; {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the child ended before it said %q", want)
			}
			if line == want {
				return
			}
		case <-end:
			t.Fatalf("the child never said %q", want)
		}
	}
}

// TestZombie pauses an owner until another one has taken its partition, between two commits and in the middle of one. When
// it goes on, nothing of what it does counts, and no fire is missing or there twice.
func TestZombie(t *testing.T) {
	for _, pause := range []string{"between", "inside"} {
		t.Run(pause, func(t *testing.T) {
			ctx := t.Context()
			url := onPostgres(t)
			s := open(t, store.Config{URL: url, Ephemeral: true, LeaseTTL: time.Second})
			tn := tenant(t, s)
			endpoint(t, s, tn, nil)
			a := alerts(t, s, tn, 1)[0]
			must(t, s.Activate(ctx, a.Num))
			cmd, lines := child(t, order{URL: url, Alert: a.Num, Pause: pause})
			if pause == "inside" {
				waitLine(t, lines, "pausing")
			} else {
				waitLine(t, lines, "committed 20")
				must(t, cmd.Process.Signal(syscall.SIGSTOP))
			}
			l := lease(t, s, store.KindPartition, 1)[0]
			at, err := s.Checkpoint(ctx, 0)
			must(t, err)
			for seq := at.Offset + 1; seq <= at.Offset+20; seq++ {
				must(t, s.Commit(ctx, &store.Commit{Lease: l, LogID: "log", Offset: seq, Fires: []store.Event{fire(a, uint32(seq))}}))
				if seq == at.Offset+10 {
					must(t, cmd.Process.Signal(syscall.SIGCONT))
				}
			}
			waitLine(t, lines, "stale true")
			events, err := s.Events(ctx, store.EventFilter{Tenant: tn, Limit: 1 << 20})
			must(t, err)
			if len(events) != int(at.Offset)+21 {
				t.Errorf("%d events, up to offset %d", len(events), at.Offset+20)
			}
			for i, e := range events {
				if e.Seq != int64(i)+1 || e.ArmSeq != uint32(i) {
					t.Fatalf("event %d: seq %d, fire %d", i, e.Seq, e.ArmSeq)
				}
			}
		})
	}
}
