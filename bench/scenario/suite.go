package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Suite is the list of measurements that the edges are judged by.
type Suite struct {
	Quick bool   // short runs, once each: a look, not a verdict
	Only  string // of the steps, those whose name contains it
}

// Goal is a figure that the edge is to reach. Missing it is no error.
type Goal struct {
	What string `json:"what"`
	Is   string `json:"is"`
	Met  bool   `json:"met"`
}

// Step is one measurement of a suite.
type Step struct {
	Name   string `json:"name"`
	Report Report `json:"report"`
	Goals  []Goal `json:"goals"`
	run    func(ctx context.Context) (Report, []Goal, error)
}

// Run runs the suite and tells on the way.
func (s Suite) Run(ctx context.Context, out io.Writer) (steps []Step, err error) {
	var errs []error
	for _, step := range s.steps() {
		if !strings.Contains(step.Name, s.Only) {
			continue
		}
		began := time.Now()
		if step.Report, step.Goals, err = step.run(ctx); err != nil {
			return steps, fmt.Errorf("%s: %w", step.Name, err)
		}
		if _, err := fmt.Fprintf(out, "%s (%v)\n%s%s\n", step.Name, time.Since(began).Round(time.Second), step.Report.Table(), verdicts(step.Goals)); err != nil {
			return steps, err
		}
		if err := step.Report.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.Name, err))
		}
		steps = append(steps, step)
	}
	return steps, errors.Join(errs...)
}

func verdicts(goals []Goal) string {
	var b strings.Builder
	for _, g := range goals {
		met := "met"
		if !g.Met {
			met = "NOT MET"
		}
		fmt.Fprintf(&b, "goal: %s: %s, %s\n", g.What, g.Is, met)
	}
	return b.String()
}

func (s Suite) steps() []Step {
	fanout := func(name string, change func(*FanoutConfig), goals func(rows []FanoutRow) []Goal) Step {
		return s.fanout(name, DefaultFanout(), change, goals)
	}
	steps := []Step{
		fanout("market, 5,000 ticks/s", func(c *FanoutConfig) { c.Flush = []time.Duration{0, 20 * time.Millisecond} }, func(rows []FanoutRow) []Goal {
			return []Goal{
				atMost("flush 0: µs each", rows[0].CPU, 2.2), delivered(&rows[1]),
				atMost("flush 20ms: µs each", rows[1].CPU, 0.75), atMost("flush 20ms: p99 ms", rows[1].P99, 40),
			}
		}),
		fanout("market, 1,000 ticks/s", func(c *FanoutConfig) { c.Rate = 1000 }, func(rows []FanoutRow) []Goal {
			return []Goal{atMost("p99 ms", rows[0].P99, 2)}
		}),
		fanout("one topic, nothing to put together", func(c *FanoutConfig) {
			c.Shape, c.Deliveries, c.Clients, c.Channel = One, 50_000, []int{1000, 10_000}, "trades" // which are never merged
		}, func(rows []FanoutRow) []Goal {
			return []Goal{atMost("1,000 clients: times the floor", rows[0].Ratio, 1.25), atMost("10,000 clients: times the floor", rows[1].Ratio, 1.25)}
		}),
		fanout("one topic, saturated", func(c *FanoutConfig) { c.Shape = Saturated }, func(rows []FanoutRow) []Goal {
			return []Goal{atLeast("deliveries/s", rows[0].Delivered, 600_000), atMost("µs each", rows[0].CPU, 1.3)}
		}),
		fanout("one topic, 1,000 messages/s", func(c *FanoutConfig) {
			c.Shape, c.Rate, c.Flush = One, 1000, []time.Duration{5 * time.Millisecond}
		}, func(rows []FanoutRow) []Goal {
			return []Goal{delivered(&rows[0]), atMost("p99 ms", rows[0].P99, 25)}
		}),
		fanout("one topic, compressed", func(c *FanoutConfig) {
			c.Shape, c.Deliveries, c.Size, c.Deflate, c.JSON = One, 50_000, 1000, true, true
		}, func(rows []FanoutRow) []Goal {
			return []Goal{atMost("times the plain edge", rows[0].Ratio, 1.25)}
		}),
		fanout("growth", func(c *FanoutConfig) {
			c.Shape, c.Deliveries, c.Clients, c.Channel = One, 50_000, []int{1000, 5000, 19_000}, "trades"
		}, func(rows []FanoutRow) []Goal {
			change := rows[2].Ratio / max(1e-9, rows[0].Ratio)
			return []Goal{atMost("times the floor at 19,000, over that at 1,000", change, 1.25)}
		}),
		s.memory(), s.fairness("fairness, SIGSTOP", false), s.fairness("fairness, not reading", true), s.flow(), s.storm(),
	}
	return append(steps, s.streams()...)
}

// streams are the steps of the public edge.
func (s Suite) streams() []Step {
	fanout := func(name string, change func(*FanoutConfig), goals func(rows []FanoutRow) []Goal) Step {
		return s.fanout("sse: "+name, DefaultStreams(), change, goals)
	}
	return []Step{
		fanout("100 events/s, each as it comes", func(*FanoutConfig) {}, func(rows []FanoutRow) []Goal {
			return []Goal{atMost("times the floor", rows[0].Ratio, 1.25)}
		}),
		fanout("nothing to put together", func(c *FanoutConfig) {
			c.Deliveries, c.Clients = 50_000, []int{1000, 10_000}
		}, func(rows []FanoutRow) []Goal {
			return []Goal{atMost("1,000 clients: times the floor", rows[0].Ratio, 1.25), atMost("10,000 clients: times the floor", rows[1].Ratio, 1.25)}
		}),
		fanout("a write each 50 ms", func(c *FanoutConfig) {
			c.Clients, c.Flush = []int{10_000}, []time.Duration{50 * time.Millisecond}
		}, func(rows []FanoutRow) []Goal {
			return []Goal{delivered(&rows[0]), atMost("µs each", rows[0].CPU, 0.8)}
		}),
		fanout("batches", func(c *FanoutConfig) {
			c.Clients, c.Streams = []int{10_000}, []time.Duration{100 * time.Millisecond, 250 * time.Millisecond}
		}, func(rows []FanoutRow) []Goal {
			return []Goal{delivered(&rows[0]), delivered(&rows[1]), atMost("rate 250ms: µs each", rows[1].CPU, 0.25)}
		}),
		fanout("batches, gzip", func(c *FanoutConfig) {
			c.Clients, c.Streams, c.Deflate = []int{10_000}, []time.Duration{250 * time.Millisecond}, true
		}, func(rows []FanoutRow) []Goal { return []Goal{delivered(&rows[0])} }),
		s.streamMemory(),
		s.stormStep("sse: storm", DefaultStreamStorm(), 5),
	}
}

func (s Suite) fanout(name string, cfg FanoutConfig, change func(*FanoutConfig), goals func(rows []FanoutRow) []Goal) Step {
	return Step{Name: name, run: func(ctx context.Context) (Report, []Goal, error) {
		cfg.Duration = 5 * time.Second
		change(&cfg)
		if s.Quick {
			cfg.Repeat, cfg.Warmup, cfg.Duration = 1, time.Second, 3*time.Second
		}
		r, err := Fanout(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return r, goals(r.Rows), nil
	}}
}

func (s Suite) streamMemory() Step {
	return Step{Name: "sse: idle memory", run: func(ctx context.Context) (Report, []Goal, error) {
		r, err := Memory(ctx, DefaultStreamMemory())
		if err != nil {
			return nil, nil, err
		}
		each := float64(r.Goroutines-r.Few) / float64(r.Config.Clients)
		return r, []Goal{
			atMost("KiB each, settled", r.PerConn, 2.5), atMost("KiB each, given back", r.PerFreed, 2.5), atMost("goroutines each", each, 0.01),
		}, nil
	}}
}

func (s Suite) memory() Step {
	return Step{Name: "idle memory", run: func(ctx context.Context) (Report, []Goal, error) {
		cfg := DefaultMemory()
		if s.Quick {
			cfg.Settle = 8 * time.Second
		}
		r, err := Memory(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return r, []Goal{atMost("KiB each, settled", r.PerConn, 7), atMost("KiB each, given back", r.PerFreed, 7)}, nil
	}}
}

func (s Suite) fairness(name string, noRead bool) Step {
	return Step{Name: name, run: func(ctx context.Context) (Report, []Goal, error) {
		cfg := DefaultFairness()
		cfg.NoRead = noRead
		if s.Quick {
			cfg.Repeat, cfg.Duration, cfg.Settle = 2, 3*time.Second, 2*time.Second
		}
		r, err := Fairness(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		free, stopped := r.P99()
		return r, []Goal{{
			What: "p99 at most 1.25 times, or 2 ms more", Is: fmt.Sprintf("%.2f to %.2f ms", free, stopped), Met: stopped <= max(1.25*free, free+2),
		}}, nil
	}}
}

func (s Suite) flow() Step {
	return Step{Name: "pause", run: func(ctx context.Context) (Report, []Goal, error) {
		cfg := DefaultFlow()
		if s.Quick {
			cfg.After = 2 * time.Second
		}
		r, err := Flow(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return r, []Goal{atMost("age behind the pause, ms", float64(r.Age().Milliseconds()), 250)}, nil // its other bounds are errors
	}}
}

func (s Suite) storm() Step { return s.stormStep("storm", DefaultStorm(), 10) }

func (s Suite) stormStep(name string, cfg StormConfig, limit float64) Step {
	return Step{Name: name, run: func(ctx context.Context) (Report, []Goal, error) {
		r, err := Storm(ctx, cfg)
		if err != nil {
			return nil, nil, err
		}
		return r, []Goal{atMost("all served within, s", r.Elapsed.Seconds(), limit)}, nil
	}}
}

func atMost(what string, is, limit float64) Goal {
	return Goal{What: fmt.Sprintf("%s at most %g", what, limit), Is: fmt.Sprintf("%.2f", is), Met: is <= limit}
}

func atLeast(what string, is, limit float64) Goal {
	return Goal{What: fmt.Sprintf("%s at least %.0f", what, limit), Is: fmt.Sprintf("%.0f", is), Met: is >= limit}
}

// pace names what the edge puts together.
func (r *FanoutRow) pace() string {
	if r.Stream > 0 {
		return fmt.Sprintf("rate %v", r.Stream)
	}
	return fmt.Sprintf("flush %v", r.Flush)
}

// delivered is the goal that everything offered arrives, give or take what was on its way.
func delivered(r *FanoutRow) Goal {
	return Goal{
		What: fmt.Sprintf("%s: all of %.0f deliveries/s", r.pace(), r.Offered), Is: fmt.Sprintf("%.0f", r.Delivered), Met: r.Delivered >= 0.99*r.Offered,
	}
}
