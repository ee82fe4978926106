package streamtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
)

// assignments follows who has which partitions.
type assignments struct {
	mu      sync.Mutex
	owned   map[string][]int
	doubled bool
	changed chan struct{}
}

func (a *assignments) set(member string, partitions []int) {
	a.mu.Lock()
	if partitions == nil {
		delete(a.owned, member)
	} else {
		a.owned[member] = partitions
	}
	var all []int
	for _, p := range a.owned {
		all = append(all, p...)
	}
	slices.Sort(all)
	a.doubled = a.doubled || len(slices.Compact(slices.Clone(all))) != len(all)
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

func (a *assignments) wait(t *testing.T, what string, cond func(owned map[string][]int) bool) {
	t.Helper()
	ctx := testContext(t)
	for {
		a.mu.Lock()
		ok := cond(a.owned)
		a.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-a.changed:
		case <-ctx.Done():
			t.Fatalf("no %s: %v", what, a.owned)
		}
	}
}

// member joins the group until stop is called.
func (a *assignments) member(t *testing.T, c *stream.Cluster, name string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		cfg := stream.GroupConfig{ID: "ingest", SessionTimeout: 2 * time.Second, HeartbeatInterval: 200 * time.Millisecond}
		done <- c.RunGroup(ctx, cfg, func(ctx context.Context, partitions []int) error {
			a.set(name, append([]int{}, partitions...))
			<-ctx.Done()
			a.set(name, nil)
			return ctx.Err()
		})
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func testGroup(t *testing.T, e *env) {
	c := e.market(t, 4)
	a := &assignments{owned: make(map[string][]int), changed: make(chan struct{}, 1)}
	a.member(t, c, "a")
	a.wait(t, "member with all partitions", func(owned map[string][]int) bool { return len(owned["a"]) == 4 })
	stop := a.member(t, c, "b")
	a.wait(t, "even division", func(owned map[string][]int) bool { return len(owned["a"]) == 2 && len(owned["b"]) == 2 })
	stop()
	a.wait(t, "heir", func(owned map[string][]int) bool { return len(owned["a"]) == 4 })
	if a.doubled {
		t.Error("two members had the same partition")
	}
	failure := errors.New("work failed")
	err := c.RunGroup(testContext(t), stream.GroupConfig{ID: "other"}, func(context.Context, []int) error { return failure })
	if !errors.Is(err, failure) {
		t.Fatalf("got %v", err)
	}
}
