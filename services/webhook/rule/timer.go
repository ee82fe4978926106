package rule

import "github.com/tickwire/tickwire/pkg/market"

// timer is an instant at which something becomes of a rule.
type timer struct {
	at   market.Time
	slot uint32
}

// timers is a heap, earliest first.
type timers []timer

func (t timers) due(now market.Time) bool { return len(t) > 0 && t[0].at <= now }

func (t *timers) push(v timer) {
	h := append(*t, v)
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].at <= h[i].at {
			break
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
	*t = h
}

func (t *timers) pop() timer {
	h := *t
	first := h[0]
	last := len(h) - 1
	h[0] = h[last]
	*t = h[:last]
	t.sink(0)
	return first
}

func (t timers) sink(i int) {
	for {
		child := 2*i + 1
		if child >= len(t) {
			return
		}
		if child+1 < len(t) && t[child+1].at < t[child].at {
			child++
		}
		if t[i].at <= t[child].at {
			return
		}
		t[i], t[child] = t[child], t[i]
		i = child
	}
}

// keep drops the timers that want says no to.
func (t *timers) keep(want func(slot uint32) bool) {
	h := (*t)[:0]
	for _, v := range *t {
		if want(v.slot) {
			h = append(h, v)
		}
	}
	*t = h
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.sink(i)
	}
}
